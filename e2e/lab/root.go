// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// guestInit is where guest/init is put in the image; the kernel starts it.
const guestInit = "/usr/sbin/muster-lab-init"

//go:embed guest/init
var guestInitScript string

const (
	baseFile = "base.img"
	// rootSize of the machines' disk. The image is sparse.
	rootSize = "16G"
	// rootNeed: tree and image took 0.5 GiB on 2026-11-20.
	rootNeed = 1 << 30
	// rootRecipe changes when buildRoot does something else.
	rootRecipe = "1"
)

// rootPackages is what a machine has beyond Debian's essential packages: what
// a person's server has, and what Kubernetes' own programs call.
func rootPackages() []string {
	return []string{
		"ca-certificates", "conntrack", "curl", "dbus", "ethtool", "iproute2", "ipset", "iptables", "iputils-ping",
		"ipvsadm", "kmod", "nftables", "openssh-server", "openssh-sftp-server", "procps",
		"systemd", "systemd-sysv", "udev",
	}
}

// rootMasks are units that a machine of the lab does not need; each one costs
// time at boot.
func rootMasks() []string {
	return []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer",
		"e2scrub_all.timer", "e2scrub_reap.service",
		"getty.target", "console-getty.service", "ipvsadm.service",
		"ldconfig.service", "systemd-firstboot.service", "systemd-pcrphase.service",
		"systemd-pstore.service", "systemd-random-seed.service", "systemd-sysusers.service",
		"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
		"dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
	}
}

// rootFiles are written over the image's packages.
func rootFiles() []file {
	return []file{
		{strings.TrimPrefix(guestInit, "/"), 0o755, guestInitScript},
		{"etc/ssh/sshd_config.d/lab.conf", 0o644, "HostKey /etc/ssh/ssh_host_ed25519_key\n" +
			"PermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxSessions 100\nMaxStartups 100\n"},
		{"etc/systemd/system.conf.d/lab.conf", 0o644, "[Manager]\nDefaultTimeoutStopSec=15s\n"},
		{"etc/systemd/journald.conf.d/lab.conf", 0o644, "[Journal]\nSystemMaxUse=64M\n"},
	}
}

func rootProduct(m mirrors, say func(string)) product {
	inputs := []string{rootRecipe, m.suite, rootSize, strings.Join(rootPackages(), " "), strings.Join(rootMasks(), " ")}
	for _, f := range rootFiles() {
		inputs = append(inputs, f.path, f.data)
	}
	return product{
		kind: "root",
		key:  keyOf(inputs...),
		need: rootNeed,
		make: func(ctx context.Context, dir string) error { return buildRoot(ctx, dir, m, say) },
	}
}

// buildRoot leaves only the image in dir.
func buildRoot(ctx context.Context, dir string, m mirrors, say func(string)) error {
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, baseFile)
	if err := runTold(ctx, say, dir, "install "+m.suite, debootstrap(m, tree)...); err != nil {
		return err
	}
	if err := adapt(tree); err != nil {
		return fmt.Errorf("set up the image: %w", err)
	}
	if err := runTold(ctx, say, dir, "write the image", "mkfs.ext4", "-q", "-F", "-L", "root", "-m", "0",
		"-i", "65536", "-E", "lazy_itable_init=1", "-d", tree, image, rootSize); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(tree), os.Chmod(image, 0o444))
}

// debootstrap is the command line that fills the tree. Mirrors of archived
// releases have long expired signatures.
func debootstrap(m mirrors, tree string) []string {
	argv := []string{
		"mmdebstrap", "--variant=minbase", "--include=" + strings.Join(rootPackages(), ","),
		`--aptopt=Acquire::Check-Valid-Until "false"`,
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		m.suite, tree,
	}
	return append(argv, m.lines...)
}

// adapt turns a plain Debian into the root of all machines: nothing in it
// belongs to one of them, or to the computer that it was made on.
func adapt(tree string) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // only read from
	var errs []error
	for _, f := range rootFiles() {
		errs = append(errs, root.MkdirAll(filepath.Dir(f.path), 0o755),
			root.WriteFile(f.path, []byte(f.data), 0o644), root.Chmod(f.path, fs.FileMode(f.mode)))
	}
	links := map[string]string{"ctrl-alt-del.target": "/lib/systemd/system/poweroff.target"}
	for _, unit := range rootMasks() {
		links[unit] = "/dev/null"
	}
	for unit, target := range links {
		path := "etc/systemd/system/" + unit
		errs = append(errs, removeIn(root, path), root.Symlink(target, path))
	}
	for _, path := range []string{
		"etc/apt/sources.list", "etc/resolv.conf", "etc/hostname", "etc/machine-id", "var/lib/dbus/machine-id",
		"etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub",
		"etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ecdsa_key.pub",
		"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub",
	} {
		errs = append(errs, removeIn(root, path))
	}
	for _, dir := range []string{"var/lib/apt/lists", "var/cache/apt", "var/log/journal"} {
		errs = append(errs, root.RemoveAll(dir), root.MkdirAll(dir, 0o755))
	}
	return errors.Join(errs...)
}

func removeIn(root *os.Root, path string) error {
	if err := root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

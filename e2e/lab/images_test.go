// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/internal/golden"
)

const indexes = `Packages|Debian|main|bookworm|http://mirror.test/debian/|bookworm
Translations|Debian|main|bookworm|http://mirror.test/debian/|bookworm
Packages|Debian|contrib|bookworm|http://mirror.test/debian/|bookworm
Packages|Debian|main|bookworm-updates|http://mirror.test/debian/|bookworm-updates
Packages|Debian|main|bookworm-backports|http://mirror.test/debian/|bookworm-backports
Packages|Debian|main|bookworm-security|http://mirror.test/security/|bookworm-security
Packages|Somebody|main|stable|https://other.test/apt/|stable
Packages|Debian|main|trixie|http://mirror.test/debian/|trixie
Packages|Debian|main|trixie-updates|http://mirror.test/debian/|trixie-updates
`

func TestParseMirrors(t *testing.T) {
	m, err := parseMirrors(indexes)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"deb http://mirror.test/debian/ bookworm main",
		"deb http://mirror.test/debian/ bookworm-updates main",
		"deb http://mirror.test/security/ bookworm-security main",
	}
	if m.suite != "bookworm" || !slices.Equal(m.lines, want) {
		t.Errorf("got %s %q", m.suite, m.lines)
	}
	if _, err := parseMirrors("Packages|Ubuntu|main|noble|http://mirror.test/|noble\n"); err == nil {
		t.Error("no Debian, no error")
	}
}

func FuzzParseMirrors(f *testing.F) {
	f.Add(indexes)
	f.Add("|||||")
	f.Fuzz(func(t *testing.T, out string) {
		if m, err := parseMirrors(out); err == nil && (m.suite == "" || len(m.lines) == 0) {
			t.Errorf("no error and no mirror: %+v", m)
		}
	})
}

func TestMissingPackages(t *testing.T) {
	out := "bc installed\nflex config-files\nmake installed\ngcc not-installed\n"
	got := missingPackages(out, []string{"bc", "bison", "flex", "gcc", "make"})
	if want := []string{"bison", "flex", "gcc"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDebootstrapCommand(t *testing.T) {
	m, err := parseMirrors(indexes)
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "debootstrap.golden", []byte(strings.Join(debootstrap(m, "/tree"), "\n")+"\n"))
}

func TestUMLCommandLine(t *testing.T) {
	got, err := umlArguments(launch{
		Name: "w-1", Dir: "/state, with comma/machines/w-1", Base: "/state, with comma/base.img", MemoryMiB: 512,
		Tap: "tap21", MAC: "52:54:0a:4d:00:15",
		Address: netip.MustParsePrefix("10.77.0.21/24"), Gateway: netip.MustParseAddr("10.77.0.1"),
		Address6: netip.MustParsePrefix("fd77::21/64"), Gateway6: netip.MustParseAddr("fd77::1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "uml.golden", []byte(strings.Join(got, "\n")+"\n"))
}

// What Kubernetes and the proxier need of a kernel, by what breaks without it.
func TestKernelConfigHasWhatKubernetesNeeds(t *testing.T) {
	has := map[string]bool{}
	for line := range strings.Lines(kernelConfig) {
		line = strings.TrimSpace(line)
		if has[line] {
			t.Errorf("%s is there twice", line)
		}
		has[line] = true
	}
	for need, without := range map[string]string{
		"IP_VS_RR": "services", "IP_VS_WRR": "API balancer", "IP_VS_SH": "session affinity", "IP_VS_MH": "Maglev",
		"IP_VS_NFCT": "masquerading of service traffic", "IP_VS_IPV6": "dual stack",
		"NF_TABLES_INET": "proxier's table", "NFT_MASQ": "masquerading", "NFT_FIB_INET": "node ports", "NFT_NUMGEN": "nftables mode",
		"VXLAN": "flannel", "VETH": "pods", "BRIDGE": "CNI bridge", "BRIDGE_NETFILTER": "services from a bridge", "DUMMY": "kube-ipvs0",
		"NETFILTER_XT_MATCH_COMMENT": "portmap", "NETFILTER_XT_MATCH_MULTIPORT": "portmap", "NETFILTER_XT_MARK": "portmap",
		"OVERLAY_FS": "containerd", "SECCOMP_FILTER": "runc", "CGROUP_BPF": "device cgroup of v2", "MEMCG": "limits", "CGROUP_PIDS": "limits",
		"CFS_BANDWIDTH": "CPU limits", "BLK_CGROUP": "io limits", "NET_SCH_NETEM": "fault tests", "POSIX_MQUEUE": "pod sandboxes",
	} {
		if !has["CONFIG_"+need+"=y"] {
			t.Errorf("CONFIG_%s is not set: %s", need, without)
		}
	}
}

func TestReplaceOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for before, want := range map[string]string{"a x b": "a y b", "a b": "", "x x": ""} {
		if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
		err := replaceOnce(path, "x", "y")
		data := must[[]byte](t)(os.ReadFile(path))
		if want == "" && (err == nil || string(data) != before) || want != "" && (err != nil || string(data) != want) {
			t.Errorf("%q became %q, %v", before, data, err)
		}
	}
}

func TestTakeKernel(t *testing.T) {
	tree, dir := t.TempDir(), t.TempDir()
	if takeKernel(tree, dir) == nil {
		t.Error("an empty tree has no kernel")
	}
	writeAll(t, tree, map[string]string{
		"linux": "ELF", "include/config/kernel.release": "6.12.1\n", "modules.builtin": "kernel/a.ko\n", "modules.builtin.modinfo": "",
	})
	if err := takeKernel(tree, dir); err != nil {
		t.Fatal(err)
	}
	modules := must[[]byte](t)(os.ReadFile(filepath.Join(dir, modulesFile)))
	if !strings.Contains(string(modules), "lib/modules/6.12.1/modules.builtin") {
		t.Error("the list is not where modprobe looks")
	}
	if data, err := os.ReadFile(filepath.Join(dir, kernelFile)); err != nil || string(data) != "ELF" {
		t.Errorf("kernel: %q, %v", data, err)
	}
}

func TestAdaptTwice(t *testing.T) {
	tree := t.TempDir()
	writeAll(t, tree, map[string]string{
		"etc/ssh/ssh_host_rsa_key": "KEY", "etc/machine-id": "ID", "etc/apt/sources.list": "MIRROR",
		"etc/resolv.conf": "HOST", "var/lib/apt/lists/x": "LIST", "etc/systemd/system/fstrim.timer": "UNIT", "usr/sbin/x": "",
	})
	for range 2 {
		if err := adapt(tree); err != nil {
			t.Fatal(err)
		}
	}
	for _, gone := range []string{"etc/ssh/ssh_host_rsa_key", "etc/machine-id", "etc/apt/sources.list", "etc/resolv.conf", "var/lib/apt/lists/x"} {
		if _, err := os.Lstat(filepath.Join(tree, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	if target, err := os.Readlink(filepath.Join(tree, "etc/systemd/system/fstrim.timer")); err != nil || target != "/dev/null" {
		t.Errorf("fstrim.timer: %q, %v", target, err)
	}
	info, err := os.Stat(filepath.Join(tree, guestInit))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("init: %v, %v", info, err)
	}
}

func TestRunToldTellsAndEnds(t *testing.T) {
	var said []string
	say := func(s string) { said = append(said, s) }
	err := runTold(t.Context(), say, t.TempDir(), "build", "sh", "-c", "echo one; echo two >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "build") || !strings.Contains(err.Error(), "one\ntwo") || len(said) != 1 {
		t.Errorf("got %v, said %q", err, said)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, cause)
	defer cancel()
	begun := time.Now()
	// The child holds the output open: ending the shell alone would not do.
	if err := runTold(ctx, say, t.TempDir(), "build", "sh", "-c", "sleep 60 & wait"); !errors.Is(err, cause) || time.Since(begun) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	out := &tail{keep: 2}
	if got := out.last(); got != "" {
		t.Errorf("empty: %q", got)
	}
	for _, s := range []string{"a\nb", "c\n\n", "d\rpart"} {
		if n, err := out.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if out.last() != "d" || out.String() != "bc\nd\npart" {
		t.Errorf("last %q, all %q", out.last(), out.String())
	}
}

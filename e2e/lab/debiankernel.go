// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	vmlinuzFile = "vmlinuz"
	modulesDir  = "modules"
	// debianKernelPackage names whichever kernel is current in this release.
	debianKernelPackage = "linux-image-cloud-amd64"
	// debianKernelNeed: the package took 26 MiB and unpacked 110 on 2026-11-20.
	debianKernelNeed = 300 << 20
	// debianKernelRecipe changes when takeDebianKernel does something else.
	debianKernelRecipe = "1"
)

// emulatedModules is what an emulated machine loads before anything else, with
// what these depend on: its devices, and all that the proxier uses.
func emulatedModules() []string {
	return []string{
		"virtio_pci", "virtio_blk", "ext4", "veth", "dummy", "bridge", "br_netfilter", "sctp",
		"nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nf_tables", "nft_ct", "nft_chain_nat", "nft_masq", "nft_nat",
		"nft_reject_inet", "nft_fib_inet", "nft_numgen", "nft_hash",
		"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sh", "ip_vs_mh", "ip_vs_dh", "ip_vs_sed", "ip_vs_nq",
	}
}

// debianKernel is Debian's kernel for virtual machines, as its release has it.
// It is unpacked, never installed.
func debianKernel(ctx context.Context, say func(string)) (product, error) {
	out, err := output(ctx, "apt-cache", "show", "--no-all-versions", debianKernelPackage)
	if err != nil {
		return product{}, err
	}
	name, err := dependency(out)
	if err != nil {
		return product{}, err
	}
	version, err := output(ctx, "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return product{}, err
	}
	return product{
		kind: "debian",
		key:  keyOf(debianKernelRecipe, version, strings.Join(emulatedModules(), " ")),
		need: debianKernelNeed,
		make: func(ctx context.Context, dir string) error { return takeDebianKernel(ctx, dir, name, say) },
	}, nil
}

// dependency gives the package that a package without content stands for.
func dependency(show string) (string, error) {
	for line := range strings.Lines(show) {
		if list, ok := strings.CutPrefix(line, "Depends: "); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(list), " ")
			return strings.TrimSuffix(name, ","), nil
		}
	}
	return "", fmt.Errorf("apt-cache knows no dependency of %s: run apt-get update", debianKernelPackage)
}

// takeDebianKernel leaves the kernel in dir, and its modules in the order in
// which they can be loaded.
func takeDebianKernel(ctx context.Context, dir, name string, say func(string)) error {
	if err := runTold(ctx, say, dir, "download "+name, "apt-get", "-o", "APT::Sandbox::User=root", "download", name); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages: %w", name, len(archives), err)
	}
	tree := filepath.Join(dir, "tree")
	if err := runTold(ctx, say, dir, "unpack it", "dpkg-deb", "--extract", archives[0], tree); err != nil {
		return err
	}
	kernels, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("package %s has %d kernels: %w", name, len(kernels), err)
	}
	if err := takeModules(ctx, tree, filepath.Join(dir, modulesDir)); err != nil {
		return fmt.Errorf("take the modules of %s: %w", name, err)
	}
	return errors.Join(os.Rename(kernels[0], filepath.Join(dir, vmlinuzFile)), os.RemoveAll(tree), os.Remove(archives[0]))
}

// takeModules puts the modules into one directory, under names that sort in
// the order of loading.
func takeModules(ctx context.Context, tree, dir string) error {
	found := map[string]string{} // path by name
	builtin := ""
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "modules.builtin" {
			data, err := os.ReadFile(p)
			builtin = moduleName(string(data))
			return err
		}
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok {
			found[moduleName(name)] = p
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var order []string
	for _, name := range emulatedModules() {
		if strings.Contains(builtin, "/"+name+".ko") {
			continue
		}
		if order, err = loadOrder(ctx, found, name, order); err != nil {
			return err
		}
	}
	for i, name := range order {
		if err := os.Rename(found[name], filepath.Join(dir, fmt.Sprintf("%03d-%s.ko", i, name))); err != nil {
			return err
		}
	}
	return nil
}

// moduleName spells a module as the kernel does: files may have hyphens.
func moduleName(file string) string { return strings.ReplaceAll(file, "-", "_") }

// loadOrder appends a module to order, after those that it depends on.
func loadOrder(ctx context.Context, found map[string]string, name string, order []string) ([]string, error) {
	if slices.Contains(order, name) {
		return order, nil
	}
	file, ok := found[name]
	if !ok {
		return nil, fmt.Errorf("the package has no module %s", name)
	}
	if strings.HasSuffix(file, ".xz") {
		if _, err := output(ctx, "xz", "--decompress", file); err != nil {
			return nil, err
		}
		file = strings.TrimSuffix(file, ".xz")
		found[name] = file
	}
	needs, err := depends(file)
	if err != nil {
		return nil, fmt.Errorf("read what module %s depends on: %w", name, err)
	}
	for _, n := range needs {
		if order, err = loadOrder(ctx, found, n, order); err != nil {
			return nil, err
		}
	}
	return append(order, name), nil
}

// depends reads a module's own list.
func depends(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			return strings.Split(moduleName(list), ","), nil
		}
	}
	return nil, nil
}

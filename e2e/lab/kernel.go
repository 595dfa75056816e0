// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// kernelConfig is what the machines' kernel has beyond the smallest possible
// one. Everything is built in: a machine has no modules to load.
//
//go:embed uml-6.12.config
var kernelConfig string

const (
	kernelFile = "linux"
	// modulesFile is a tar of /lib/modules that lists what is built in, so that
	// modprobe of it succeeds as it does on a distribution's kernel.
	modulesFile = "modules.tar"
	// kernelNeed: the unpacked source and its objects took 2.0 GiB on 2026-11-20.
	kernelNeed = 2500 << 20
	// kernelRecipe changes when buildKernel does something else.
	kernelRecipe = "2"
)

// tapSource and its change: the tap's descriptor must not survive the exec
// that is UML's reboot, or the new kernel finds the device busy and has no
// network (Linux 6.12 to at least 6.17).
const (
	tapSource = "arch/um/drivers/vector_user.c"
	tapBefore = "open(PATH_NET_TUN, O_RDWR)"
	tapAfter  = "open(PATH_NET_TUN, O_RDWR | O_CLOEXEC)"
)

func kernelProduct(version string, say func(string)) product {
	return product{
		kind: "kernel",
		key:  keyOf(kernelRecipe, version, kernelConfig, tapAfter),
		need: kernelNeed,
		make: func(ctx context.Context, dir string) error { return buildKernel(ctx, dir, say) },
	}
}

// buildKernel leaves only the kernel and its list of modules in dir.
func buildKernel(ctx context.Context, dir string, say func(string)) error {
	fragment := filepath.Join(dir, "fragment.config")
	if err := os.WriteFile(fragment, []byte(kernelConfig), 0o644); err != nil {
		return err
	}
	tree := filepath.Join(dir, sourcePackage)
	source := "/usr/src/" + sourcePackage + ".tar.xz"
	if err := runTold(ctx, say, dir, "unpack the source", "tar", "-xf", source); err != nil {
		return err
	}
	if err := replaceOnce(filepath.Join(tree, tapSource), tapBefore, tapAfter); err != nil {
		return err
	}
	if err := compileKernel(ctx, tree, fragment, say); err != nil {
		return err
	}
	if err := takeKernel(tree, dir); err != nil {
		return fmt.Errorf("take the kernel out of its tree: %w", err)
	}
	say("remove the source tree")
	return errors.Join(os.RemoveAll(tree), os.Remove(fragment))
}

func compileKernel(ctx context.Context, tree, fragment string, say func(string)) error {
	jobs := "-j" + strconv.Itoa(runtime.NumCPU())
	for _, step := range []struct {
		what string
		argv []string
	}{
		{"make the smallest configuration", []string{"make", "ARCH=um", "allnoconfig"}},
		{"add the lab's configuration", []string{"scripts/kconfig/merge_config.sh", "-m", ".config", fragment}},
		{"complete the configuration", []string{"make", "ARCH=um", "olddefconfig"}},
		{"compile", []string{"make", "ARCH=um", jobs, kernelFile}},
	} {
		if err := runTold(ctx, say, tree, step.what, step.argv...); err != nil {
			return err
		}
	}
	return nil
}

func replaceOnce(path, before, after string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), before); n != 1 {
		return fmt.Errorf("change %s: %q is there %d times, not once: the lab's code does not fit this kernel version", path, before, n)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), before, after, 1)), 0o644)
}

// takeKernel moves out of the built tree what a lab needs.
func takeKernel(tree, dir string) error {
	release, err := os.ReadFile(filepath.Join(tree, "include/config/kernel.release"))
	if err != nil {
		return err
	}
	list := "lib/modules/" + strings.TrimSpace(string(release)) + "/"
	files := []file{{list + "modules.order", 0o644, ""}}
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo"} {
		data, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			return err
		}
		files = append(files, file{list + name, 0o644, string(data)})
	}
	modules, err := archive(files)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, modulesFile), modules, 0o644),
		os.Rename(filepath.Join(tree, kernelFile), filepath.Join(dir, kernelFile)))
}

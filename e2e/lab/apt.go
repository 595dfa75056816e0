// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// sourcePackage is Debian's package of the kernel's source.
const sourcePackage = "linux-source-6.12"

// Packages lists the Debian packages that a lab needs to be installed, sorted.
// All but openssh-client only serve to fill the cache.
func Packages() []string {
	return []string{
		"bc", "bison", "e2fsprogs", "flex", "gcc", "libc6-dev", "libelf-dev", "libssl-dev",
		sourcePackage, "make", "mmdebstrap", "openssh-client", "xz-utils",
	}
}

// checkPackages names the packages that are missing and how to get them.
func checkPackages(ctx context.Context) error {
	args := append([]string{"--show", "--showformat=${Package} ${db:Status-Status}\n"}, Packages()...)
	cmd := exec.CommandContext(ctx, "dpkg-query", args...)
	out, err := cmd.Output()
	// It exits with 1 when it does not know a package at all; the others are listed.
	if err != nil && len(out) == 0 && ctx.Err() == nil && cmd.ProcessState == nil {
		return fmt.Errorf("ask for installed packages: %w: the lab needs Debian's package tools to build its kernel and root image", err)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if missing := missingPackages(string(out), Packages()); len(missing) > 0 {
		list := strings.Join(missing, " ")
		return fmt.Errorf("packages that the lab is built with are missing: %s: run apt-get install --yes %s", list, list)
	}
	return nil
}

// missingPackages compares with what dpkg-query printed.
func missingPackages(installed string, want []string) []string {
	has := map[string]bool{}
	for line := range strings.Lines(installed) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), " installed"); ok {
			has[name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(want), func(p string) bool { return has[p] })
}

// packageVersion gives the installed version of a package.
func packageVersion(ctx context.Context, name string) (string, error) {
	out, err := output(ctx, "dpkg-query", "--show", "--showformat=${Version}", name)
	if err != nil {
		return "", fmt.Errorf("%w: run apt-get install --yes %s", err, name)
	}
	return strings.TrimSpace(out), nil
}

// mirrors are the package sources that a root image is made from, as lines of
// sources.list, and the name of the release that they have in common.
type mirrors struct {
	suite string
	lines []string
}

// indexFormat asks apt for what mirrors needs, one line per index.
const indexFormat = "$(CREATED_BY)|$(ORIGIN)|$(COMPONENT)|$(CODENAME)|$(REPO_URI)|$(RELEASE)"

// findMirrors reads this computer's own apt configuration: it names mirrors
// that work here.
func findMirrors(ctx context.Context) (mirrors, error) {
	out, err := output(ctx, "apt-get", "indextargets", "--format", indexFormat)
	if err != nil {
		return mirrors{}, err
	}
	return parseMirrors(out)
}

// parseMirrors picks Debian's own main archive with its updates from the
// output of apt-get indextargets.
func parseMirrors(out string) (mirrors, error) {
	var found mirrors
	var updates []string
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 6 || f[0] != "Packages" || f[1] != "Debian" || f[2] != "main" {
			continue
		}
		source := "deb " + f[4] + " " + f[5] + " main"
		switch _, kind, _ := strings.Cut(f[3], "-"); kind {
		case "":
			if found.suite == "" {
				found.suite = f[3]
				found.lines = append(found.lines, source)
			}
		case "updates", "security":
			updates = append(updates, source)
		}
	}
	if found.suite == "" {
		return found, fmt.Errorf("apt-get indextargets lists no Debian release with component main: " +
			"add one to /etc/apt/sources.list.d and run apt-get update")
	}
	for _, u := range updates {
		if strings.Contains(u, " "+found.suite+"-") && !slices.Contains(found.lines, u) {
			found.lines = append(found.lines, u)
		}
	}
	return found, nil
}

// output runs a program and gives what it printed. The error holds the end of
// its standard error.
func output(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		// Not wrapped: muster's own exit code is not that program's.
		return "", fmt.Errorf("run %s: %s: %s", argv[0], err.Error(), lastLines(errs.String(), 5))
	}
	return out.String(), nil
}

// lastLines gives the end of a program's output, in one line.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " / ")
}

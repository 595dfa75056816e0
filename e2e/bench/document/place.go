// SPDX-License-Identifier: Apache-2.0

// Package document is where the benchmarks write what they found: a section
// each in one Markdown file, and the place where it was measured.
package document

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is where numbers were measured.
type Place struct {
	Cores  int
	Model  string
	Kernel string
	Load   string // averages over 1, 5 and 15 minutes, before the first run
	Commit string
}

// Here describes this computer and the source tree around the working
// directory.
func Here(ctx context.Context) (Place, error) {
	p := Place{Cores: runtime.NumCPU()}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return p, err
	}
	p.Model = modelOf(cpuinfo)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return p, fmt.Errorf("uname: %w", err)
	}
	p.Kernel = unix.ByteSliceToString(name.Release[:])
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return p, err
	}
	p.Load = strings.Join(strings.Fields(string(load))[:3], ", ")
	p.Commit, err = commit(ctx)
	return p, err
}

// modelOf is the first processor's name, or what is known of it: not every
// architecture has a "model name".
func modelOf(cpuinfo []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// commit says which source was measured, and whether it was changed since.
func commit(ctx context.Context) (string, error) {
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("ask git for the commit: %w; run this inside the source tree", err)
	}
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil {
		return "", fmt.Errorf("ask git for changes: %w", err)
	}
	id := strings.TrimSpace(string(head))
	if len(changed) > 0 {
		id += " with changes"
	}
	return id, nil
}

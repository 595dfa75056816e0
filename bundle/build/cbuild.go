// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// cBuild builds one freestanding C file: a program without a libc.
type cBuild struct {
	source string // relative to the source tree
	name   string // of the program
}

// cFlags leave out what a program of one page has no use for; every page of it
// is paid for once per pod.
func cFlags() []string {
	return []string{
		"-Os", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding",
		"-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-pie", "-no-pie",
		"-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,-z,noseparate-code", "-Wl,-z,noexecstack", "-s",
	}
}

func (c cBuild) tools() []tool                { return ccTools() }
func (c cBuild) toolchain(w *workshop) string { return w.ccVersion }

func (c cBuild) inputs(_ context.Context, w *workshop) (string, error) {
	raw, err := os.ReadFile(filepath.Join(w.source, c.source))
	if err != nil {
		return "", fmt.Errorf("hash a source: %w", err)
	}
	return fmt.Sprintf("%s %q %s %x", c.name, cFlags(), w.ccVersion, sha256.Sum256(raw)), nil
}

func (c cBuild) make(ctx context.Context, w *workshop, dir string) error {
	args := append(cFlags(), "-o", filepath.Join(dir, c.name), c.source)
	_, err := w.output(ctx, nil, w.source, "gcc", args...)
	return err
}

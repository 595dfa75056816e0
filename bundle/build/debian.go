// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// debian takes one file out of a Debian package. The package comes from where
// this computer's own apt gets its packages, which also checks it.
type debian struct {
	pkg  string
	path string // in the package, without a leading slash
	name string // of the file that is made
}

func (d debian) tools() []tool              { return debTools() }
func (d debian) toolchain(*workshop) string { return "" }

// uriLine is a line of `apt-get --print-uris download`: URL, file, size, hash.
var uriLine = regexp.MustCompile(`(?m)^'[^']*' (\S+) \d+ (\S+)$`)

// inputs is the package's exact version and hash, as apt knows them. Where it
// is downloaded from does not matter.
func (d debian) inputs(ctx context.Context, w *workshop) (string, error) {
	out, err := w.output(ctx, nil, w.source, "apt-get", "--print-uris", "download", d.pkg)
	if err != nil {
		return "", fmt.Errorf("%w\n`apt-get update` brings the list of packages up to date", err)
	}
	m := uriLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("find the Debian package %s: apt-get names no file for it, only %q", d.pkg, out)
	}
	return strings.Join([]string{m[1], m[2], d.path, d.name}, " "), nil
}

func (d debian) make(ctx context.Context, w *workshop, dir string) error {
	work, remove, err := w.temp()
	if err != nil {
		return err
	}
	defer remove()
	if _, err := w.output(ctx, nil, work, "apt-get", "-o", "APT::Sandbox::User=root", "download", d.pkg); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("download the Debian package %s: %d files instead of one", d.pkg, len(debs))
	}
	root := filepath.Join(work, "root")
	if _, err := w.output(ctx, nil, work, "dpkg-deb", "--extract", debs[0], root); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(root, d.path), filepath.Join(dir, d.name)); err != nil {
		return fmt.Errorf("take %s out of the Debian package %s: %w", d.path, d.pkg, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	files, err := packageFiles(out)
	if err != nil {
		return "", fmt.Errorf("find the Debian package %s: %w", d.pkg, err)
	}
	return fmt.Sprintf("%q %s %s", files, d.path, d.name), nil
}

// packageFiles are names and hashes of the packages that apt-get would fetch.
func packageFiles(printed string) ([]string, error) {
	var files []string
	for _, m := range uriLine.FindAllStringSubmatch(printed, -1) {
		files = append(files, m[1]+" "+m[2])
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("apt-get names no file for it, only %q", printed)
	}
	slices.Sort(files)
	return files, nil
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

// debianTree unpacks Debian packages and all they depend on into one directory.
// Their scripts do not run, so an image that wants what those set up adds it.
type debianTree struct {
	pkgs []string
	name string // of the directory
}

func (d debianTree) tools() []tool              { return debTools() }
func (d debianTree) toolchain(*workshop) string { return "" }

// aptInstall pretends that nothing is installed yet, so that every dependency
// is named, whatever this computer has.
func (d debianTree) aptInstall(extra ...string) []string {
	args := []string{"-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true", "--yes", "--no-install-recommends"}
	return append(append(append(args, extra...), "install"), d.pkgs...)
}

func (d debianTree) inputs(ctx context.Context, w *workshop) (string, error) {
	out, err := w.output(ctx, nil, w.source, "apt-get", d.aptInstall("-o", "Dir::Cache::archives="+os.DevNull, "--print-uris")...)
	if err != nil {
		return "", fmt.Errorf("%w\n`apt-get update` brings the list of packages up to date", err)
	}
	files, err := packageFiles(out)
	if err != nil {
		return "", fmt.Errorf("find the Debian packages %s: %w", strings.Join(d.pkgs, " "), err)
	}
	return fmt.Sprintf("%q %s", files, d.name), nil
}

func (d debianTree) make(ctx context.Context, w *workshop, dir string) error {
	work, remove, err := w.temp()
	if err != nil {
		return err
	}
	defer remove()
	if err := os.Mkdir(filepath.Join(work, "partial"), 0o755); err != nil {
		return fmt.Errorf("unpack Debian packages: %w", err)
	}
	if _, err := w.output(ctx, nil, work, "apt-get", d.aptInstall("-o", "Dir::Cache::archives="+work, "--download-only")...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("download the Debian packages %s: there are none", strings.Join(d.pkgs, " "))
	}
	for _, deb := range debs {
		if _, err := w.output(ctx, nil, work, "dpkg-deb", "--extract", deb, filepath.Join(dir, d.name)); err != nil {
			return err
		}
	}
	return nil
}

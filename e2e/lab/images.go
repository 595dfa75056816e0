// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// takeImages links kernel and root image into the lab's directory once: what a
// machine was made with has to stay while its disk lives, whatever becomes of
// the cache.
func (l *Lab) takeImages(ctx context.Context, t *teller) error {
	if _, err := os.Stat(l.dir.path(baseFile)); err == nil {
		return nil
	}
	kernel, root, err := images(ctx, t)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir.path(), 0o700); err != nil {
		return err
	}
	for _, from := range []string{
		filepath.Join(kernel, kernelFile), filepath.Join(kernel, modulesFile),
		filepath.Join(root, baseFile), // last: it tells that all are there
	} {
		to := l.dir.path(filepath.Base(from))
		if err := os.RemoveAll(to); err != nil { // of a try that was cut short
			return err
		}
		if err := place(from, to); err != nil {
			return err
		}
	}
	return nil
}

// images gives the cache directories of kernel and root image, both made at
// the same time if need be: one waits for processors, the other for the
// network.
func images(ctx context.Context, t *teller) (kernel, root string, err error) {
	c, err := openCache()
	if err != nil {
		return "", "", err
	}
	if err := checkPackages(ctx); err != nil {
		return "", "", err
	}
	version, err := packageVersion(ctx, sourcePackage)
	if err != nil {
		return "", "", err
	}
	m, err := findMirrors(ctx)
	if err != nil {
		return "", "", err
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		say := t.about("kernel")
		var err error
		kernel, err = c.get(ctx, kernelProduct(version, say), say)
		return err
	})
	both.Go(func() error {
		say := t.about("root")
		var err error
		root, err = c.get(ctx, rootProduct(m, say), say)
		return err
	})
	return kernel, root, both.Wait()
}

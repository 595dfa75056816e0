// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copySparse copies a file and keeps its holes: a root image is mostly hole.
// The new file has the old one's times, which a copy-on-write disk checks.
func copySparse(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	half := to + ".new"
	out, err := os.OpenFile(half, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(copyData(out, in), out.Truncate(info.Size()), out.Close())
	if err == nil {
		err = errors.Join(os.Chmod(half, info.Mode().Perm()), os.Chtimes(half, info.ModTime(), info.ModTime()), os.Rename(half, to))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy %s to %s: %w", from, to, err), os.Remove(half))
	}
	return nil
}

// copyData copies what is between the holes, to the same places.
func copyData(out, in *os.File) error {
	for at := int64(0); ; {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but hole until the end
		}
		if err != nil {
			return err
		}
		if at, err = in.Seek(data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := in.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, at-data); err != nil {
			return err
		}
	}
}

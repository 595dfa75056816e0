// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// cpioWriter writes the "newc" format of cpio(5), which the kernel unpacks at
// boot. The first error stays and ends all writing.
type cpioWriter struct {
	out  *bufio.Writer
	size int
	next int // inode number
	err  error
}

func newCPIO(w io.Writer) *cpioWriter { return &cpioWriter{out: bufio.NewWriter(w), next: 1} }

func (c *cpioWriter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.out.Write(b)
		c.size += len(b)
	}
}

func (c *cpioWriter) pad() { c.write(make([]byte, -c.size&3)) }

// entry writes one file or directory; type and permissions are as in stat(2).
func (c *cpioWriter) entry(name string, mode uint32, data []byte) {
	fields := []int{c.next, int(mode), 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	c.next++
	c.write([]byte("070701"))
	for _, f := range fields {
		c.write(fmt.Appendf(nil, "%08x", f))
	}
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(data)
	c.pad()
}

func (c *cpioWriter) directory(name string) { c.entry(name, 0o040755, nil) }

func (c *cpioWriter) data(name string, data []byte, perm uint32) { c.entry(name, 0o100000|perm, data) }

// file packs a file of this computer.
func (c *cpioWriter) file(name, from string, perm uint32) {
	data, err := os.ReadFile(from)
	if err != nil && c.err == nil {
		c.err = err
	}
	c.data(name, data, perm)
}

// tree packs a file, or a directory with all in it.
func (c *cpioWriter) tree(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		to := path.Join(name, filepath.ToSlash(rel))
		if d.IsDir() {
			c.directory(to)
			return nil
		}
		info, err := d.Info()
		if err == nil {
			c.file(to, p, uint32(info.Mode().Perm()))
		}
		return err
	})
	if err != nil && c.err == nil {
		c.err = err
	}
}

func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, nil)
	if c.err != nil {
		return c.err
	}
	return c.out.Flush()
}

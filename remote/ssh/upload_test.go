// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// content is data that no short period repeats.
func content(n int) []byte {
	data := make([]byte, n)
	x := uint32(1)
	for i := range data {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	return data
}

func checkFile(t *testing.T, path string, want []byte, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has other content: %d bytes, want %d", path, len(got), len(want))
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != mode {
		t.Errorf("%s has mode %v; want %v", path, info.Mode(), mode)
	}
}

// names lists a directory; there must be nothing in it that nobody asked for.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// servers are those an upload treats differently, as they name themselves.
func servers() []string { return []string{"SSH-2.0-OpenSSH_9.2", "SSH-2.0-other"} }

func TestUpload(t *testing.T) {
	for _, version := range servers() {
		t.Run(version, func(t *testing.T) {
			testUpload(t, newFixture(t, func(c *sshtest.Config) { c.Version = version }).dial(t))
		})
	}
}

func testUpload(t *testing.T, c *ssh.Conn) {
	for _, size := range []int{0, 1, 32 << 10, 32<<10 + 1, 5 << 20} {
		data := content(size)
		dir := filepath.Join(t.TempDir(), "it's", "new dir")
		dest := filepath.Join(dir, "muster node")
		for _, mode := range []fs.FileMode{0o600, 0o755} { // new, then replaced
			if err := c.Upload(t.Context(), dest, mode, bytes.NewReader(data), int64(size), sum(data)); err != nil {
				t.Fatal(err)
			}
			checkFile(t, dest, data, mode)
		}
		if got := names(t, dir); got != "muster node" {
			t.Errorf("left behind: %s", got)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("directory: %v, %v; want mode 0755", info.Mode(), err)
		}
	}
}

func TestUploadOfSomethingElse(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	data := content(100000)
	broken := errors.New("disk on fire")
	cases := []struct {
		name string
		r    io.Reader
		size int64
		sum  string
		want string
	}{
		{"wrong sum", bytes.NewReader(data), 100000, sum([]byte("x")), "its SHA-256 sum there is " + sum(data)},
		{"short", bytes.NewReader(data), 100001, sum(data), "1 bytes shorter than announced"},
		{"long", bytes.NewReader(data), 99999, sum(data), "longer than announced"},
		{"broken", io.MultiReader(bytes.NewReader(data[:50000]), iotest.ErrReader(broken)), 100000, sum(data), "disk on fire"},
		{"no sum", bytes.NewReader(data), 100000, "abc", "not a SHA-256 sum"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			dest := filepath.Join(dir, "f")
			if err := os.WriteFile(dest, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := c.Upload(t.Context(), dest, 0o755, tc.r, tc.size, tc.sum)
			if err == nil {
				t.Fatal("no error")
			}
			mustContain(t, err.Error(), tc.want, dest)
			checkFile(t, dest, []byte("old"), 0o644)
			if got := names(t, dir); got != "f" {
				t.Errorf("left behind: %s", got)
			}
		})
	}
	for _, dest := range []string{"relative", "/", "/a/../b", "/a/"} {
		if err := c.Upload(t.Context(), dest, 0o755, bytes.NewReader(nil), 0, sum(nil)); err == nil {
			t.Errorf("uploaded to %q", dest)
		}
	}
}

// TestUploadCutAnywhere cuts the link after more and more bytes: the old file
// stays whole until the new one is, the error says the link was lost, and the
// next upload completes.
func TestUploadCutAnywhere(t *testing.T) {
	f := newFixture(t, nil)
	data := content(600 << 10)
	dir := t.TempDir()
	dest := filepath.Join(dir, "f")
	cuts := 0
	for after := int64(2000); ; after += 90_000 {
		if err := os.WriteFile(dest, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		f.server.Break(sshtest.Faults{CutAfter: after})
		c, err := ssh.Dial(t.Context(), f.host(), f.options())
		if err == nil {
			within(t, 10*time.Second, func() {
				err = c.Upload(t.Context(), dest, 0o755, bytes.NewReader(data), int64(len(data)), sum(data))
			})
			c.Close()
		}
		if err == nil {
			checkFile(t, dest, data, 0o755)
			break
		}
		cuts++
		var lost *ssh.LostError
		var unreachable *ssh.UnreachableError
		if !errors.As(err, &lost) && !errors.As(err, &unreachable) {
			t.Errorf("cut after %d bytes: %v; want a LostError", after, err)
		}
		if got, _ := os.ReadFile(dest); string(got) != "old" && !bytes.Equal(got, data) {
			t.Fatalf("cut after %d bytes: %s holds neither the old nor the new content", after, dest)
		}
	}
	if cuts < 5 {
		t.Errorf("only %d cuts before an upload went through", cuts)
	}
	if got := names(t, dir); got != "f" {
		t.Errorf("left behind after a whole upload: %s", got)
	}
}

func TestUploadCancelled(t *testing.T) {
	f := newFixture(t, nil)
	f.server.Break(sshtest.Faults{Delay: 5 * time.Millisecond})
	c := f.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	data := content(64 << 20)
	within(t, 5*time.Second, func() {
		err := c.Upload(ctx, filepath.Join(t.TempDir(), "f"), 0o755, bytes.NewReader(data), int64(len(data)), sum(data))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v; want the context's end", err)
		}
	})
}

func TestUploadWithoutSFTP(t *testing.T) {
	c := newFixture(t, func(c *sshtest.Config) { c.Dir = "" }).dial(t)
	err := c.Upload(t.Context(), "/tmp/x", 0o755, bytes.NewReader(nil), 0, sum(nil))
	if err == nil {
		t.Fatal("no error")
	}
	mustContain(t, err.Error(), "SFTP subsystem")
}

func BenchmarkUpload(b *testing.B) {
	data := content(64 << 20)
	s, dest := sum(data), filepath.Join(b.TempDir(), "f")
	for _, version := range servers() {
		b.Run(version, func(b *testing.B) {
			c := newFixture(b, func(c *sshtest.Config) { c.Version = version }).dial(b)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := c.Upload(b.Context(), dest, 0o755, bytes.NewReader(data), int64(len(data)), s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCPIO reads the archive back, field by field as cpio(5) has them.
func TestCPIO(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{"one": "1", "sub/two": "22", "sub/empty": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	w := newCPIO(&out)
	w.data("hello", []byte("world"), 0o755)
	w.tree("files", dir)
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	want := "hello 100755 world; files 40755 ; files/one 100640 1; files/sub 40755 ; files/sub/empty 100640 ; files/sub/two 100640 22; TRAILER!!! 0 ; "
	if got := listCPIO(t, out.Bytes()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w = newCPIO(io.Discard)
	w.file("gone", filepath.Join(dir, "gone"), 0o644)
	if err := w.close(); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func listCPIO(t *testing.T, b []byte) string {
	t.Helper()
	var out strings.Builder
	align := func(n int) int { return (n + 3) &^ 3 }
	for len(b) > 0 {
		if string(b[:6]) != "070701" {
			t.Fatalf("no header at %q", b[:min(len(b), 20)])
		}
		var field [13]int
		for i := range field {
			for _, digit := range string(b[6+8*i : 14+8*i]) {
				field[i] = field[i]*16 + strings.IndexRune("0123456789abcdef", digit)
			}
		}
		mode, size, name := field[1], field[6], field[11]
		data := b[align(110+name):]
		out.WriteString(string(b[110:110+name-1]) + " " + octal(mode) + " " + string(data[:size]) + "; ")
		b = data[align(size):]
	}
	return out.String()
}

func octal(n int) string {
	if n < 8 {
		return string(rune('0' + n))
	}
	return octal(n/8) + string(rune('0'+n%8))
}

func TestDependency(t *testing.T) {
	for _, c := range []struct{ show, want string }{
		{"Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n", "linux-image-6.1.0-56-cloud-amd64"},
		{"Depends: linux-image-6.12.1-cloud-amd64\n", "linux-image-6.12.1-cloud-amd64"},
		{"Depends: a, b\n", "a"},
		{"Package: x\nPre-Depends: y\n", ""},
	} {
		got, err := dependency(c.show)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q, %v, want %q", c.show, got, err, c.want)
		}
	}
}

// TestWatchEmulator uses a shell as the machine.
func TestWatchEmulator(t *testing.T) {
	for _, c := range []struct {
		script, out string
		code        int
		fails       bool
	}{
		{`printf 'one\r\ntwo\r\nmuster: exit code 0\r\n'`, "one\ntwo\n", 0, false},
		{`echo 'muster: exit code 3'`, "", 3, false},
		{`echo one`, "one\n", -1, true},
		{`echo 'muster: exit code x'; echo rest`, "", 0, true},
		{`echo 'muster: exit code 0'; echo broken >&2; exit 1`, "", 0, true},
	} {
		var out strings.Builder
		code, err := watchEmulator(exec.CommandContext(t.Context(), "sh", "-c", c.script), &out)
		if out.String() != c.out || code != c.code || (err != nil) != c.fails {
			t.Errorf("%s: %q, %d, %v", c.script, out.String(), code, err)
		}
	}
}

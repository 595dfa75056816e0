// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/muster-project/muster/e2e/lab/orders"
)

// Emulation is a program to run on Debian's own kernel, in a machine that QEMU
// emulates: about ten times slower than this computer, and with nothing but
// that program running on the root image of the lab's machines.
type Emulation struct {
	Init      string            // program that the kernel starts, linked statically: it follows package orders
	Files     map[string]string // path on this computer by name in /root there
	Argv      []string          // run in /root
	Env       []string
	MemoryMiB int
}

const emulator = "qemu-system-x86_64"

// EmulatorPackages lists the Debian packages that Emulate needs beyond those
// of [Packages].
func EmulatorPackages() []string { return []string{"qemu-system-x86", "xz-utils"} }

// ErrExit is a program in an emulated machine that ended with another code
// than 0.
var ErrExit = errors.New("the program failed")

// Emulate boots a machine, copies what its program prints to out and returns
// when it has ended. progress may be nil.
func Emulate(ctx context.Context, e Emulation, out io.Writer, progress func(Event)) error {
	if _, err := exec.LookPath(emulator); err != nil {
		return fmt.Errorf("%w: run apt-get install --yes %s", err, strings.Join(EmulatorPackages(), " "))
	}
	t := newTeller(progress)
	kernel, root, err := emulated(ctx, t)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "muster-emulate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	initrd := filepath.Join(dir, "initrd")
	if err := writeInitrd(initrd, kernel, e); err != nil {
		return fmt.Errorf("pack the emulated machine: %w", err)
	}
	console := filepath.Join(dir, "console")
	cmd := exec.CommandContext(ctx, emulator,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc,accel=tcg", "-cpu", "max",
		"-m", strconv.Itoa(e.MemoryMiB), "-kernel", filepath.Join(kernel, vmlinuzFile), "-initrd", initrd,
		"-append", "console=ttyS0 panic=-1 quiet mitigations=off",
		// Machines of labs hold locks on the image. What is written here goes to
		// a temporary file, as theirs goes to their own.
		"-drive", "if=virtio,driver=raw,snapshot=on,file.driver=file,file.locking=off,file.filename="+
			strings.ReplaceAll(filepath.Join(root, baseFile), ",", ",,"),
		"-serial", "file:"+console, "-serial", "stdio")
	t.say("emulator", "booting "+filepath.Base(kernel))
	code, err := watchEmulator(cmd, out)
	if err != nil {
		last, _ := os.ReadFile(console) //nolint:errcheck // only to tell more
		return fmt.Errorf("%w: the console ended with: %s", err, lastLines(string(last), 10))
	}
	if code != 0 {
		return fmt.Errorf("run %s in an emulated machine: %w: exit code %d", strings.Join(e.Argv, " "), ErrExit, code)
	}
	return nil
}

// watchEmulator runs the machine and gives its program's exit code.
func watchEmulator(cmd *exec.Cmd, out io.Writer) (code int, err error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	code = -1
	for lines := bufio.NewReader(stdout); err == nil; {
		var line string
		line, err = lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if number, ok := strings.CutPrefix(line, orders.Exit); ok {
			if code, err = strconv.Atoi(number); err != nil {
				break
			}
		} else if err == nil {
			_, err = fmt.Fprintln(out, line)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	} else {
		err = errors.Join(err, cmd.Process.Kill()) // nobody reads what it says any more
	}
	err = errors.Join(err, cmd.Wait())
	if err == nil && code < 0 {
		err = errors.New("the emulated machine ended before its program did")
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, lastLines(errs.String(), 5))
	}
	return code, err
}

// emulated gives the cache directories of Debian's kernel and the root image.
func emulated(ctx context.Context, t *teller) (kernel, root string, err error) {
	c, err := openCache()
	if err != nil {
		return "", "", err
	}
	m, err := findMirrors(ctx)
	if err != nil {
		return "", "", err
	}
	p, err := debianKernel(ctx, t.about("kernel"))
	if err != nil {
		return "", "", err
	}
	if kernel, err = c.get(ctx, p, t.about("kernel")); err != nil {
		return "", "", err
	}
	root, err = c.get(ctx, rootProduct(m, t.about("root")), t.about("root"))
	return kernel, root, err
}

// writeInitrd packs Init and all it needs.
func writeInitrd(path, kernel string, e Emulation) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := newCPIO(f)
	w.file("init", e.Init, 0o755)
	w.directory(orders.Modules[1:])
	modules, err := os.ReadDir(filepath.Join(kernel, modulesDir))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	for _, m := range modules {
		w.file(orders.Modules[1:]+"/"+m.Name(), filepath.Join(kernel, modulesDir, m.Name()), 0o644)
	}
	w.directory(orders.Files[1:])
	for name, from := range e.Files {
		w.tree(orders.Files[1:]+"/"+name, from)
	}
	data, err := json.Marshal(orders.Orders{Argv: e.Argv, Env: e.Env})
	w.data(orders.File[1:], data, 0o644)
	return errors.Join(err, w.close(), f.Close())
}

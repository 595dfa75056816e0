// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/e2e/lab/orders"
)

const (
	newRoot = "/disk"
	home    = "/root" // of the program, on the disk
)

// diskWithin bounds the wait for the disk: drivers find devices by themselves.
const diskWithin = time.Minute

// run does all and gives the program's exit code.
func run() (code int, err error) {
	if err := mountAll("", "proc", "sysfs", "devtmpfs"); err != nil {
		return 0, err
	}
	data, err := os.ReadFile(orders.File)
	if err != nil {
		return 0, err
	}
	var todo orders.Orders
	if err := json.Unmarshal(data, &todo); err != nil {
		return 0, fmt.Errorf("read the orders: %w", err)
	}
	if err := loadModules(); err != nil {
		return 0, err
	}
	if err := enterDisk(); err != nil {
		return 0, err
	}
	return execute(todo)
}

// mountAll mounts file systems that the kernel makes up where they belong.
func mountAll(root string, types ...string) error {
	places := map[string]string{"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev", "tmpfs": home}
	for _, t := range types {
		to := root + places[t]
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(t, to, t, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s at %s: %w", t, to, err)
		}
	}
	return nil
}

func loadModules() error {
	modules, err := filepath.Glob(orders.Modules + "/*") // sorted
	if err != nil {
		return err
	}
	for _, m := range modules {
		f, err := os.Open(m)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	return nil
}

// enterDisk makes the disk the root, with the files in home.
func enterDisk() error {
	ctx, cancel := context.WithTimeout(context.Background(), diskWithin)
	defer cancel()
	if err := await(ctx, orders.Disk); err != nil {
		return err
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(orders.Disk, newRoot, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", orders.Disk, err)
	}
	if err := mountAll(newRoot, "proc", "sysfs", "devtmpfs", "tmpfs"); err != nil {
		return err
	}
	if err := copyTree(orders.Files, newRoot+home); err != nil {
		return err
	}
	if err := errors.Join(unix.Chroot(newRoot), os.Chdir(home)); err != nil {
		return fmt.Errorf("enter %s: %w", newRoot, err)
	}
	return nil
}

// await waits until a device is there.
func await(ctx context.Context, device string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(device); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not there within %s", device, diskWithin)
		case <-tick.C:
		}
	}
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, info.Mode().Perm())
	})
}

// execute runs the program with its output on the second serial line.
func execute(o orders.Orders) (code int, err error) {
	if len(o.Argv) == 0 {
		return 0, errors.New("the orders name no program")
	}
	out, err := os.OpenFile(orders.Output, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer out.Close() //nolint:errcheck // written to directly
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home}, o.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// report tells the exit code as the last line.
func report(code int) error {
	out, err := os.OpenFile(orders.Output, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s%d\n", orders.Exit, code)
	return errors.Join(err, out.Close())
}

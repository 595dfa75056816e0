// SPDX-License-Identifier: Apache-2.0

package steptest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Program is what a fake program does.
type Program func(ctx context.Context, stdin io.Reader, argv []string) (stdout string, err error)

// ExitError is the end of a fake program without success.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// ExitCode returns the exit code.
func (e ExitError) ExitCode() int { return int(e) }

// Exec is the host's programs in memory. It knows those that steps call, and
// what a test adds to Programs.
type Exec struct {
	// Fail, if set, is the answer to every call.
	Fail     error
	Programs map[string]Program
	// Modules are the kernel's: what appears on the host when one is loaded.
	Modules map[string]string
	// Images are containerd's: the SHA-256 of each name's archive.
	Images map[string]string
	// Journal is what each unit logged.
	Journal map[string]string

	world *World
	mu    sync.Mutex
	calls []string
}

func newExec(w *World) *Exec {
	e := &Exec{world: w, Modules: map[string]string{}, Images: map[string]string{}, Journal: map[string]string{}}
	e.Programs = map[string]Program{
		"modprobe": e.modprobe, "useradd": e.useradd, "userdel": e.userdel,
		"journalctl": e.journalctl, "/opt/muster/bin/ctr": e.ctr,
	}
	return e
}

// Calls lists the command lines that were run, in order.
func (e *Exec) Calls() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// Run runs a program; one that the fake does not know fails the test.
func (e *Exec) Run(ctx context.Context, stdin io.Reader, argv ...string) ([]byte, error) {
	e.mu.Lock()
	e.calls = append(e.calls, strings.Join(argv, " "))
	e.mu.Unlock()
	if e.Fail != nil {
		return nil, e.Fail
	}
	program, known := e.Programs[argv[0]]
	if !known {
		e.world.T.Errorf("the host has no program %q", argv[0])
		return nil, fmt.Errorf("run %s: %w", argv[0], fs.ErrNotExist)
	}
	if filepath.IsAbs(argv[0]) && !e.world.Exists(argv[0]) {
		return nil, fmt.Errorf("run %s: %w", argv[0], fs.ErrNotExist)
	}
	out, err := program(ctx, stdin, argv)
	return []byte(out), err
}

func (e *Exec) modprobe(_ context.Context, _ io.Reader, argv []string) (string, error) {
	probe, known := e.Modules[argv[1]]
	if !known {
		return "", ExitError(1)
	}
	path, word, _ := strings.Cut(probe, ":")
	e.world.Write(path, 0o644, "nodev "+word+"\n")
	return "", nil
}

func (e *Exec) useradd(_ context.Context, _ io.Reader, argv []string) (string, error) {
	name := argv[len(argv)-1]
	if e.world.Users.Has(name) {
		return "", ExitError(9) // useradd(8): username already in use
	}
	e.world.Users.Add(name)
	return "", nil
}

func (e *Exec) userdel(_ context.Context, _ io.Reader, argv []string) (string, error) {
	if !e.world.Users.Has(argv[1]) {
		return "", ExitError(6) // userdel(8): specified user doesn't exist
	}
	delete(e.world.Users.known, argv[1])
	return "", nil
}

func (e *Exec) journalctl(_ context.Context, _ io.Reader, argv []string) (string, error) {
	return e.Journal[argv[2]], nil
}

// ctr knows `images ls` with a name filter and `images import` from stdin. An
// archive is imported once it was read to its end without an error.
func (e *Exec) ctr(_ context.Context, stdin io.Reader, argv []string) (string, error) {
	switch argv[4] {
	case "ls":
		ref := strings.TrimPrefix(argv[len(argv)-1], "name==")
		if _, known := e.Images[ref]; known {
			return ref + "\n", nil
		}
		return "", nil
	case "import":
		archive, err := io.ReadAll(stdin)
		if err != nil {
			return "", err
		}
		ref, _, _ := strings.Cut(string(archive), "\n")
		sum := sha256.Sum256(archive)
		e.Images[ref] = hex.EncodeToString(sum[:])
		return "", nil
	}
	e.world.T.Errorf("ctr does not know %q", argv)
	return "", ExitError(1)
}

// SPDX-License-Identifier: Apache-2.0

// Package kerneltest is what the tests of the proxier on a real kernel have in
// common: those with the build tag `kernel`, which need root.
package kerneltest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inNamespace marks a process that Main has started again.
const inNamespace = "MUSTER_TEST_IN_NETNS"

// Main runs the tests of a package in a network and a mount namespace of their
// own, which this process enters by starting itself again, and returns what
// to exit with. before runs outside of them; nil is nothing.
func Main(m *testing.M, before func() error) int {
	if os.Getenv(inNamespace) != "" {
		return m.Run()
	}
	if before != nil {
		if err := before(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inNamespace+"=1")
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := again.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start again in new namespaces:", err)
		return 1
	}
	return 0
}

// Shell runs a script in the namespaces of the test and returns what it
// printed; the test ends where the script fails.
func Shell(t testing.TB, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// SPDX-License-Identifier: Apache-2.0

// Package program runs programs for benchmarks and conformance runs.
package program

import (
	"errors"
	"fmt"
	"os/exec"
)

// Output runs a program and returns what it printed; the error of one that
// ended otherwise than with 0 holds the end of its standard error.
func Output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, fmt.Errorf("%s: %w\n%s", cmd, err, exit.Stderr)
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w", cmd, err)
	}
	return out, nil
}

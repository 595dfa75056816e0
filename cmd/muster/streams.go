// SPDX-License-Identifier: Apache-2.0

package main

import "io"

// streams are what a command reads and writes. Results go to out, progress
// and warnings to err, so that `muster plan -o json | jq` stays clean.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

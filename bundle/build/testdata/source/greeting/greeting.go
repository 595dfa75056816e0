// SPDX-License-Identifier: Apache-2.0

// Package greeting is what command hello says.
package greeting

import _ "embed"

// Text is embedded, so that a change of a file that is no Go source counts too.
//
//go:embed greeting.txt
var Text string

// SPDX-License-Identifier: Apache-2.0

// Package deploy holds manifests for clusters that muster did not make.
package deploy

import _ "embed" // the manifest is a file

//go:embed muster-proxier.yaml
var proxier []byte

// Proxier is the manifest of muster-proxier as a DaemonSet: documents in YAML,
// in the order to apply them in.
func Proxier() []byte { return append([]byte(nil), proxier...) }

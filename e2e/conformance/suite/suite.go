// SPDX-License-Identifier: Apache-2.0

// Package suite pins Kubernetes' own end-to-end tests.
package suite

import _ "k8s.io/kubernetes/test/e2e" // its test binary is what gets built

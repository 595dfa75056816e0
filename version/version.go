// SPDX-License-Identifier: Apache-2.0

// Package version says which muster this is.
package version

// Version is set by the linker; every program of one build has the same.
var Version = "0.1.0-dev"

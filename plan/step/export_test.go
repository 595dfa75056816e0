// SPDX-License-Identifier: Apache-2.0

package step

import (
	"maps"
	"slices"
)

// KindNames lists the closed set, for the test that covers it.
func KindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"testing"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// BenchmarkInMemory is the proxier's own part: no kernel, but all the rest.
func BenchmarkInMemory(b *testing.B) {
	proxiertest.Bench(b, func(testing.TB) proxier.Kernel { return &proxiertest.Kernel{} })
}

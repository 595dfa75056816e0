// SPDX-License-Identifier: Apache-2.0

package proxiertest

import (
	"testing"

	"github.com/muster-project/muster/proxier"
)

func TestKernelInMemory(t *testing.T) {
	Suite(t, func(*testing.T) proxier.Kernel { return &Kernel{} })
}

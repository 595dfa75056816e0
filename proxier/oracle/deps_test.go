// SPDX-License-Identifier: Apache-2.0

package oracle

// What the tests of upstream that are compiled here import.
import (
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/lithammer/dedent"
	_ "github.com/muster-project/muster/proxier"
	_ "github.com/stretchr/testify/assert"
	_ "golang.org/x/time/rate"
	_ "k8s.io/apiserver/pkg/util/feature"
	_ "k8s.io/client-go/informers"
	_ "k8s.io/component-base/featuregate/testing"
	_ "k8s.io/component-base/metrics/testutil"
	_ "k8s.io/klog/v2"
	_ "k8s.io/kubernetes/pkg/proxy/nftables"
	_ "k8s.io/kubernetes/pkg/proxy/util/testing"
	_ "sigs.k8s.io/knftables"
)

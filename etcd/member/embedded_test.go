// SPDX-License-Identifier: Apache-2.0

package member

import (
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/muster-project/muster/etcd"
)

// At 0 etcd logs every request with its text: on a fresh control plane that was
// two thirds of the journal.
func TestOnlySlowRequestsAreLogged(t *testing.T) {
	cfg, err := embedded(etcd.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.WarningUnaryRequestDuration; got != embed.DefaultWarningUnaryRequestDuration {
		t.Errorf("requests are logged from %s on, want %s", got, embed.DefaultWarningUnaryRequestDuration)
	}
}

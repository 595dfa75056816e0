// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/e2e/lab"
)

// TestThreeMembers installs etcd on three hosts, two of them workers, and
// takes one away: the cluster goes on.
func TestThreeMembers(t *testing.T) {
	u := newUser(t, lab.Spec{Name: "e2e-etcd", Machines: []lab.Machine{
		{Name: "cp-1", Roles: []string{"control-plane", "etcd"}},
		{Name: "w-1", Roles: []string{"worker", "etcd"}},
		{Name: "w-2", Roles: []string{"worker", "etcd"}},
	}})
	t.Log(u.muster(t, "init"))
	u.allReady(t, "cp-1", "w-1", "w-2")
	const health = "/opt/muster/bin/muster-etcd health --config /etc/muster/etcd.yaml"
	for _, m := range []string{"cp-1", "w-1", "w-2"} {
		if got := u.on(t, m, health); !strings.Contains(got, "3 members") {
			t.Errorf("%s: %s", m, got)
		}
	}
	// Clients need a certificate: without one not even the greeting succeeds.
	if out, err := u.lab.Run(t.Context(), "w-1", "curl -sS -m 5 --cacert /etc/kubernetes/pki/etcd/ca.crt https://10.77.0.21:2379/version 2>&1"); err == nil {
		t.Errorf("etcd answers without a client certificate: %s", out)
	}
	if err := u.lab.Kill(t.Context(), "w-2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "a write with one of three members down", func() error {
		r := u.run(t, "kubectl", "", "create", "configmap", "written", "--from-literal=a=b")
		if r.code != 0 && !strings.Contains(r.stderr, "already exists") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if err := u.lab.Start(t.Context(), "w-2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "the third member comes back", func() error {
		out, err := u.lab.Run(t.Context(), "w-2", health)
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
}

// SPDX-License-Identifier: Apache-2.0

package cert_test

import (
	"fmt"
	"testing"

	"github.com/muster-project/muster/phases/cert"
	"github.com/muster-project/muster/phases/phasestest"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// requests are the certificates of a plan by host and file.
func requests(t *testing.T, lines ...string) map[string]step.Certificate {
	t.Helper()
	tasks, err := cert.Phase{}.Plan(phasestest.Cluster(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]step.Certificate{}
	for _, task := range tasks {
		for _, s := range task.Steps {
			if c, ok := s.(step.Certificate); ok {
				all[task.Host+":"+c.CertPath] = c
			}
		}
	}
	return all
}

func TestAPIServerAnswersToAllItsNames(t *testing.T) {
	for endpoint, want := range map[string]string{
		"api.example.org:6443": "[10.96.0.1 127.0.0.1 192.0.2.1 192.0.2.100 ::1] [api.example.org cp-1 kube.example.org kubernetes kubernetes.default " +
			"kubernetes.default.svc kubernetes.default.svc.cluster.local localhost]",
		"198.51.100.7:443": "[10.96.0.1 127.0.0.1 192.0.2.1 192.0.2.100 198.51.100.7 ::1] [cp-1 kube.example.org kubernetes kubernetes.default " +
			"kubernetes.default.svc kubernetes.default.svc.cluster.local localhost]",
		"[2001:db8::7]:443": "[10.96.0.1 127.0.0.1 192.0.2.1 192.0.2.100 ::1 2001:db8::7] [cp-1 kube.example.org kubernetes kubernetes.default " +
			"kubernetes.default.svc kubernetes.default.svc.cluster.local localhost]",
	} {
		all := requests(t, fmt.Sprintf("api: {endpoint: %q, names: [kube.example.org, 192.0.2.100]}", endpoint),
			"hosts: [{name: cp-1, address: 192.0.2.1, roles: [control-plane, etcd]}]")
		r := all["cp-1:/etc/kubernetes/pki/apiserver.crt"].Request
		if got := fmt.Sprint(r.IPs, " ", r.DNSNames); got != want {
			t.Errorf("%s: %s\nwant %s", endpoint, got, want)
		}
	}
}

func TestAPIServerIsReachedByBothFamilies(t *testing.T) {
	all := requests(t, `network: {pods: [10.244.0.0/16, "fd00:244::/56"], services: [10.96.0.0/16, "fd00:96::/112"]}`,
		`hosts: [{name: cp-1, address: [192.0.2.1, "2001:db8::1"], roles: [control-plane, etcd]}]`)
	want := "[10.96.0.1 127.0.0.1 192.0.2.1 ::1 2001:db8::1 fd00:96::1]"
	if got := fmt.Sprint(all["cp-1:/etc/kubernetes/pki/apiserver.crt"].Request.IPs); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Only the hosts that run a program have its key, and only the control-plane
// host makes authorities.
func TestKeysAreWhereTheyAreUsed(t *testing.T) {
	lines := []string{
		"hosts:", "- {name: cp-1, address: 192.0.2.1, roles: [control-plane]}",
		"- {name: db-1, address: 192.0.2.2, roles: [etcd]}", "- {name: w-1, address: 192.0.2.3, roles: [worker]}",
	}
	perHost := map[string]int{}
	for key, c := range requests(t, lines...) {
		host, etcd := key[:len("xx-1")], c.Request.CA == pki.Etcd
		perHost[host[:2]]++
		client := c.Request.Name == "apiserver-etcd-client"
		if host == "db-1" && !etcd || host[:2] != "db" && etcd && !client {
			t.Errorf("%s", key)
		}
	}
	if fmt.Sprint(perHost) != "map[cp:10 db:3 w-:2]" {
		t.Errorf("certificates per host: %v", perHost)
	}
	tasks, err := cert.Phase{}.Plan(phasestest.Cluster(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		for _, s := range task.Steps {
			switch s.(type) {
			case step.Authority, step.SigningKey:
				if task.ID() != plan.ID("cp-1/cert/authorities") {
					t.Errorf("%s: %s", task.ID(), s)
				}
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/client-go/tools/events"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/healthcheck"
)

func TestReporter(t *testing.T) {
	recorder := events.NewFakeRecorder(16)
	r := &reporter{node: "w-1", recorder: recorder}
	told := func(what string, want ...string) {
		t.Helper()
		for _, text := range want {
			select {
			case got := <-recorder.Events:
				if !strings.Contains(got, text) {
					t.Errorf("%s: told %q, want %q", what, got, text)
				}
			default:
				t.Errorf("%s: not told %q", what, text)
			}
		}
		select {
		case got := <-recorder.Events:
			t.Errorf("%s: told %q too", what, got)
		default:
		}
	}
	name := func(n string) proxier.Owner {
		return proxier.Owner{Service: proxier.Name{Namespace: "default", Name: n}, Kind: proxier.ExternalIP}
	}
	first := proxier.Conflict{Frontend: frontend("192.0.2.9:80"), Loser: name("late"), Winner: name("web")}
	second := proxier.Conflict{Frontend: frontend("192.0.2.9:81"), Loser: name("late"), Winner: name("web")}

	r.conflicts([]proxier.Conflict{first})
	told("a conflict", "Warning FrontendConflict 192.0.2.9:80/tcp (externalIP) is not served for this Service on node w-1: the older Service default/web has it")
	r.conflicts([]proxier.Conflict{first, second})
	told("a second one", "192.0.2.9:81")
	r.conflicts([]proxier.Conflict{second})
	told("the first ended")
	r.conflicts([]proxier.Conflict{first, second})
	told("the first began anew", "192.0.2.9:80")
	fault := proxier.Fault{Service: name("web").Service, What: "no such scheduler"}
	r.faults([]proxier.Fault{fault})
	r.faults([]proxier.Fault{fault})
	told("a fault twice", "node w-1 ignores no such scheduler")
	r.deafPort(healthcheck.Fault{Port: 30000, Check: healthcheck.Check{Service: name("web").Service}, Err: errors.New("in use")})
	told("a port", "FailedToStartServiceHealthcheck node w-1 cannot answer health checks on port 30000: in use")
	r.warnNode("FirewallDrops", "Inspect", "INPUT drops 100 % of packets")
	told("a node", "Warning FirewallDrops INPUT drops 100 % of packets")
}

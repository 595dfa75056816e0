// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// explainable is a Model with a Service that has endpoints of every sort, and
// the kernel as wanted.
func explainable(t *testing.T, change func(*Service)) (*Model, State) {
	t.Helper()
	m := NewModel(Config{Node: "here"})
	m.SetNode(Node{Zone: "a", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	m.SetServiceCIDR("kubernetes", []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")})
	s := Service{
		Name: Name{"default", "web"}, Created: time.Unix(100, 0), ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")},
		Ports: []Port{{Name: "http", Proto: TCP, Port: 80, NodePort: 30080}},
	}
	if change != nil {
		change(&s)
	}
	m.SetService(s)
	var ends []Endpoint
	for _, c := range candidates([]string{"1 here ready zone-a", "2 there ready zone-b", "3 here", "4 here leaving"}) {
		ends = append(ends, c.Endpoint)
	}
	m.SetSlice(Slice{Name: Name{"default", "web-1"}, Service: s.Name, Ports: []SlicePort{{"http", TCP, 80}}, Endpoints: ends})
	m.Update()
	return m, m.Want().Clone()
}

// inWords puts an explanation in a few words.
func inWords(e Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s local %t, %s;", e.Owner.Service, e.Owner.Kind, e.Local, e.Topology)
	for _, x := range e.Endpoints {
		fmt.Fprintf(&b, " %s=%d (%s)", x.Addr, x.Weight, x.Reason)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*Service)
		frontend string
		want     string
	}{
		{"hints", nil, "10.96.0.7:80",
			"default/web ClusterIP local false, yes: hints for zones; 10.244.0.1:80=1 (ready, and its hints name this node or zone)" +
				" 10.244.0.2:80=0 (its hints name other nodes or zones) 10.244.0.3:80=0 (not ready, and others are) 10.244.0.4:80=0 (not ready, and others are)"},
		{"external Local", func(s *Service) { s.ExternalLocal = true }, "192.0.2.1:30080",
			"default/web NodePort local true, yes: hints for zones; 10.244.0.1:80=1 (ready)" +
				" 10.244.0.2:80=0 (on another node, and the policy is Local) 10.244.0.3:80=0 (not ready, and others are) 10.244.0.4:80=0 (not ready, and others are)"},
		{"weights", func(s *Service) { s.Tuning.Weights = []WeightRule{{Local: true, Weight: 7}} }, "192.0.2.1:30080",
			"default/web NodePort local false, yes: hints for zones; 10.244.0.1:80=7 (ready, and its hints name this node or zone)" +
				" 10.244.0.2:80=0 (its hints name other nodes or zones) 10.244.0.3:80=0 (not ready, and others are) 10.244.0.4:80=0 (not ready, and others are)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, have := explainable(t, c.change)
			e, ok := m.Explain(Frontend{Addr: netip.MustParseAddrPort(c.frontend), Proto: TCP}, have)
			if got := inWords(e); !ok || got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestExplainTellsWhatIsDone compares the reasons with what is in force, for
// every frontend.
func TestExplainTellsWhatIsDone(t *testing.T) {
	m, have := explainable(t, func(s *Service) { s.ExternalLocal, s.InternalLocal = true, true })
	frontends := m.FrontendsOf(Name{"default", "web"})
	if len(frontends) != 3 {
		t.Fatalf("%d frontends, want ClusterIP, NodePort and a split target", len(frontends))
	}
	for _, f := range frontends {
		e, ok := m.Explain(f, have)
		if !ok {
			t.Fatalf("%s is not explained", f)
		}
		var used []Dest
		for _, x := range e.Endpoints {
			if x.Reason.Used() {
				used = append(used, Dest{x.Addr, x.Weight})
			}
			if (x.Have != nil) != x.Reason.Used() {
				t.Errorf("%s: %s is used: %t, in the kernel: %v", f, x.Addr, x.Reason.Used(), x.Have)
			}
		}
		if !slices.Equal(used, have.Servers[f].Dests) {
			t.Errorf("%s: explained %v, in force %v", f, used, have.Servers[f].Dests)
		}
		for _, s := range Sets() {
			told := slices.ContainsFunc(e.Sets, func(l SetElements) bool { return l.Set == s })
			if s.HoldsFrontends() && s != SetTargets && told != have.Has(FrontendElement(s, f)) {
				t.Errorf("%s: in set %s: %t, told %t", f, s, !told, told)
			}
		}
	}
}

func TestExplainDrainingAndConflicts(t *testing.T) {
	m, have := explainable(t, nil)
	f := Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: TCP}
	server := have.Servers[f]
	gone := Dest{Addr: netip.MustParseAddrPort("10.244.0.9:80")}
	server.Dests = append(slices.Clone(server.Dests), gone)
	have.Servers[f] = server
	m.SetService(Service{Name: Name{"default", "late"}, Created: time.Unix(200, 0), ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")},
		Ports: []Port{{Name: "http", Proto: TCP, Port: 80}}, Faults: []string{"no such scheduler"}})
	m.Update()
	e, _ := m.Explain(f, have)
	if !slices.Equal(e.Draining, []Dest{gone}) {
		t.Errorf("draining %v, want %v", e.Draining, gone)
	}
	if len(e.Losers) != 1 || e.Losers[0].Service.Name != "late" {
		t.Errorf("in vain: %v, want late", e.Losers)
	}
	s := m.Survey()
	if want := []Conflict{{f, Owner{Name{"default", "late"}, "http", ClusterIP}, Owner{Name{"default", "web"}, "http", ClusterIP}}}; !slices.Equal(s.Conflicts, want) {
		t.Errorf("conflicts %v, want %v", s.Conflicts, want)
	}
	if want := []Fault{{Name{"default", "late"}, "no such scheduler"}}; !slices.Equal(s.Faults, want) {
		t.Errorf("faults %v, want %v", s.Faults, want)
	}
	delete(have.Servers, f)
	if e, _ := m.Explain(f, have); !e.Missing {
		t.Error("a virtual server that is not there is not missed")
	}
	if _, ok := m.Explain(Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:81"), Proto: TCP}, have); ok {
		t.Error("a frontend of nobody is explained")
	}
}

func TestSurveyCountsLocalPoliciesWithoutEndpoints(t *testing.T) {
	m, _ := explainable(t, func(s *Service) { s.ExternalLocal, s.InternalLocal = true, true })
	ends := []Endpoint{candidates([]string{"2 there ready"})[0].Endpoint}
	m.SetSlice(Slice{Name: Name{"default", "web-1"}, Service: Name{"default", "web"}, Ports: []SlicePort{{"http", TCP, 80}}, Endpoints: ends})
	m.Update()
	if s := m.Survey(); s.NoLocalInternal != 1 || s.NoLocalExternal != 1 {
		t.Errorf("%+v, want one of each", s)
	}
}

func TestParseFrontend(t *testing.T) {
	for text, want := range map[string]string{
		"10.96.0.7:80": "10.96.0.7:80/tcp", "10.96.0.7:53/UDP": "10.96.0.7:53/udp", "[fd00::7]:9/sctp": "[fd00::7]:9/sctp",
		"[::ffff:10.96.0.7]:80/tcp": "10.96.0.7:80/tcp", "10.96.0.7": "", "10.96.0.7:80/icmp": "", "": "",
	} {
		got, err := ParseFrontend(text)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q is %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestPending(t *testing.T) {
	b := NewInbox()
	if p := b.Pending(); p != (Pending{}) {
		t.Errorf("an empty inbox has %+v", p)
	}
	b.NoService(Name{"d", "a"})
	b.NoSlice(Name{"d", "a"})
	b.NoSlice(Name{"d", "b"})
	if p := b.Pending(); p.Services != 1 || p.Slices != 2 || p.Since.IsZero() {
		t.Errorf("pending %+v, want 1 and 2", p)
	}
	b.moveTo(NewModel(Config{}))
	if p := b.Pending(); p != (Pending{}) {
		t.Errorf("an inbox that was emptied has %+v", p)
	}
}

// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The cases are what upstream's CategorizeEndpoints promises (k8s.io/
// kubernetes, pkg/proxy/topology.go): one line per endpoint, in words.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name           string
		endpoints      []string
		cluster, local string
		reachable      bool
	}{
		{"nothing", nil, "", "", false},
		{"ready ones", []string{"1 here ready", "2 there ready"}, "1 2", "1", true},
		{"not ready ones are left out", []string{"1 here", "2 there ready"}, "2", "", true},
		{"nobody ready, nobody leaving", []string{"1 here", "2 there"}, "", "", false},
		{"leaving ones only as the last resort", []string{"1 here leaving", "2 there ready"}, "2", "1", true},
		{"all leave", []string{"1 here leaving", "2 there leaving"}, "1 2", "1", true},
		{"one that leaves and does not serve is useless", []string{"1 here terminating", "2 there terminating"}, "", "", false},
		{"local falls back by itself", []string{"1 here leaving", "2 here leaving", "3 there ready"}, "3", "1 2", true},
		{"local ready beats local leaving", []string{"1 here leaving", "2 here ready"}, "2", "2", true},
		{"publishNotReadyAddresses: terminating and ready", []string{"1 here ready terminating"}, "1", "1", true},

		{"zone hints for here", []string{"1 there ready zone-a", "2 there ready zone-b"}, "1", "", true},
		{"two zones in one hint", []string{"1 there ready zone-a zone-b", "2 there ready zone-b"}, "1", "", true},
		{"one endpoint without a hint: no topology", []string{"1 there ready zone-a", "2 there ready"}, "1 2", "", true},
		{"no hint for this zone: no topology", []string{"1 there ready zone-b", "2 there ready zone-c"}, "1 2", "", true},
		{"hints of endpoints that are not ready do not count", []string{"1 there ready zone-a", "2 there"}, "1", "", true},
		{"an unready endpoint for this zone does not make a topology", []string{"1 there zone-a", "2 there ready zone-b"}, "2", "", true},
		{"zone hints and Local do not mix", []string{"1 here ready zone-b", "2 there ready zone-a"}, "2", "1", true},
		{"node hints for here", []string{"1 here ready node-here", "2 there ready node-there"}, "1", "1", true},
		{"node hints for elsewhere: zone hints", []string{"1 there ready node-there zone-a", "2 there ready node-other zone-b"}, "1", "", true},
		{"node hints before zone hints", []string{"1 there ready node-here zone-b", "2 there ready node-other zone-a"}, "1", "", true},
		{"one endpoint without a node hint", []string{"1 there ready node-here zone-b", "2 there ready zone-a"}, "2", "", true},
		{"one endpoint without a node hint, first", []string{"1 there ready zone-a", "2 there ready node-here zone-b"}, "1", "", true},
		{"fallback knows no topology", []string{"1 there leaving zone-b", "2 there leaving zone-a"}, "1 2", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := choose(candidates(c.endpoints), "here", "a", Tuning{})
			if have := numbers(got.cluster); have != c.cluster {
				t.Errorf("cluster: %q, want %q", have, c.cluster)
			}
			if have := numbers(got.local); have != c.local {
				t.Errorf("local: %q, want %q", have, c.local)
			}
			if got.reachable != (c.cluster != "") || got.reachable != c.reachable {
				t.Errorf("reachable: %t, want %t", got.reachable, c.reachable)
			}
		})
	}
}

func TestChooseWithoutAZone(t *testing.T) {
	got := choose(candidates([]string{"1 there ready zone-a", "2 there ready zone-b"}), "here", "", Tuning{})
	if numbers(got.cluster) != "1 2" {
		t.Errorf("a node without a zone uses %q, want all", numbers(got.cluster))
	}
}

func TestHairpinsAreLocalEndpointsInUse(t *testing.T) {
	got := choose(candidates([]string{"1 here ready", "2 there ready", "3 here", "4 here leaving"}), "here", "a", Tuning{})
	want := []netip.Addr{netip.MustParseAddr("10.244.0.1")}
	if !slices.Equal(slices.Compact(got.hairpins), want) {
		t.Errorf("hairpins: %v, want %v", got.hairpins, want)
	}
}

// candidates reads `NUMBER NODE [ready|leaving|terminating|zone-X|node-X]...`.
func candidates(lines []string) []candidate {
	var all []candidate
	for _, line := range lines {
		fields := strings.Fields(line)
		c := candidate{port: 80, Endpoint: Endpoint{Addr: netip.MustParseAddr("10.244.0." + fields[0]), Node: fields[1]}}
		for _, word := range fields[2:] {
			kind, name, _ := strings.Cut(word, "-")
			switch kind {
			case "ready":
				c.Ready, c.Serving = true, true
			case "leaving":
				c.Serving, c.Terminating = true, true
			case "terminating":
				c.Terminating = true
			case "zone":
				c.ForZones = append(c.ForZones, name)
			case "node":
				c.ForNodes = append(c.ForNodes, name)
			default:
				panic("endpoint in words: " + word)
			}
		}
		all = append(all, c)
	}
	return all
}

func numbers(list []Dest) string {
	var all []string
	for _, d := range list {
		_, last, _ := strings.Cut(d.Addr.Addr().String(), "10.244.0.")
		all = append(all, last)
	}
	return strings.Join(all, " ")
}

func TestMerge(t *testing.T) {
	at := func(n string, words ...string) Endpoint {
		return candidates([]string{n + " here " + strings.Join(words, " ")})[0].Endpoint
	}
	http := []SlicePort{{"http", TCP, 80}}
	from := map[Name]Slice{
		{"d", "a"}: {Ports: http, Endpoints: []Endpoint{at("1", "leaving"), at("2", "ready")}},
		{"d", "b"}: {Ports: http, Endpoints: []Endpoint{at("1", "ready"), at("2", "leaving"), {Addr: netip.MustParseAddr("fd00::1")}}},
		{"d", "c"}: {Ports: []SlicePort{{"http", TCP, 8080}, {"dns", UDP, 53}}, Endpoints: []Endpoint{at("1", "ready")}},
	}
	var got []string
	for _, c := range merge(from, Port{Name: "http", Proto: TCP}, true) {
		got = append(got, netip.AddrPortFrom(c.Addr, c.port).String())
		if !c.Ready {
			t.Errorf("%s is the one that terminates, want the one that stays", c.Addr)
		}
	}
	want := []string{"10.244.0.1:80", "10.244.0.2:80", "10.244.0.1:8080"}
	if !slices.Equal(got, want) {
		t.Errorf("merged %v, want %v", got, want)
	}
	if v6 := merge(from, Port{Name: "http", Proto: TCP}, false); len(v6) != 1 {
		t.Errorf("%d IPv6 endpoints, want 1", len(v6))
	}
}

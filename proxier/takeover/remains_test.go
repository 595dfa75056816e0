// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/proxier"
)

func TestNames(t *testing.T) {
	for name, own := range map[string]bool{
		"KUBE-SERVICES": true, "KUBE-SVC-CDGGSHYLG3RE2FKL": true, "KUBE-SEP-FNXF3UGZZITWVMQY": true, "KUBE-IPVS-OUT-FILTER": true, "KUBE-PROXY-CANARY": true,
		// The kubelet's.
		"KUBE-FIREWALL": false, "KUBE-KUBELET-CANARY": false, "KUBE-IPTABLES-HINT": false, "KUBE-MARK-DROP": false,
		// kube-router's.
		"KUBE-POD-FW-CDGGSHYLG3RE2FKL": false, "KUBE-NWPLCY-CDGGSHYLG3RE2FKL": false, "KUBE-ROUTER-INPUT": false,
		"KUBE-FW-SHORT": false, "CNI-HOSTPORT-DNAT": false, "INPUT": false,
	} {
		if ownChain(name) != own {
			t.Errorf("chain %s: kube-proxy's %t, want %t", name, !own, own)
		}
	}
	for name, own := range map[string]bool{
		"KUBE-CLUSTER-IP": true, "KUBE-6-CLUSTER-IP": true, "KUBE-6-LOAD-BALANCER-SOURCE-CID": true, "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS": true,
		"KUBE-SRC-ABCDEF": false, "KUBE-DST-ABCDEF": false, "kube-router-svip": false, "KUBE-CLUSTER": false,
	} {
		if ownSet(name) != own {
			t.Errorf("ipset %s: kube-proxy's %t, want %t", name, !own, own)
		}
	}
}

// testdata/*.save are tables as iptables-legacy-save prints them; the golden
// beside each is what iptables-legacy-restore is told, and what stays.
func TestLegacyTables(t *testing.T) {
	for name, table := range map[string]string{"ipvs-nat": "nat", "ipvs-filter": "filter", "iptables-nat": "nat", "drop-filter": "filter", "nothing": "filter"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + name + ".save")
			if err != nil {
				t.Fatal(err)
			}
			var r Remains
			tab := Table{Legacy, "ip", table}
			parseSave(string(text), tab).report(&r, tab)
			out := restoreScript(r, tab)
			for chain, why := range r.Needed {
				out += "# stays: " + chain.String() + ": " + why + "\n"
			}
			golden.Equal(t, name+".restore", []byte(out))
		})
	}
}

func FuzzLegacyTables(f *testing.F) {
	for _, name := range []string{"ipvs-nat", "iptables-nat"} {
		text, err := os.ReadFile("testdata/" + name + ".save")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r Remains
		table := Table{Legacy, "ip", "nat"}
		parseSave(text, table).report(&r, table)
		for line := range strings.Lines(restoreScript(r, table)) {
			name, isChain := strings.CutPrefix(line, ":")
			if !isChain {
				name, isChain = strings.CutPrefix(line, "-X ")
			}
			if fields := strings.Fields(name); isChain && (len(fields) == 0 || !ownChain(fields[0])) {
				t.Errorf("would delete %q", line)
			}
		}
	})
}

func frontend(t *testing.T, text string, p proxier.Protocol) proxier.Frontend {
	t.Helper()
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatal(err)
	}
	return proxier.Frontend{Addr: addr, Proto: p}
}

func TestOrphans(t *testing.T) {
	have := proxier.NewState()
	have.Routes[netip.MustParsePrefix("10.96.0.0/16")] = netip.MustParseAddr("192.0.2.1")
	pod := proxier.Dest{Addr: netip.MustParseAddrPort("10.244.0.2:8080"), Weight: 1}
	add := func(text string, p proxier.Protocol) proxier.Frontend {
		f := frontend(t, text, p)
		have.Servers[f] = proxier.Server{Dests: []proxier.Dest{pod}}
		return f
	}
	ours := add("192.0.2.1:30080", proxier.TCP)
	have.Elements[proxier.FrontendElement(proxier.SetOwned, ours)] = struct{}{}
	add("10.96.0.7:80", proxier.TCP)    // in our prefix: the successor's to delete
	add("192.0.2.1:4711", proxier.TCP)  // no NodePort: somebody else's
	add("192.0.2.1:30080", proxier.UDP) // not a NodePort of UDP
	add("192.0.2.9:30080", proxier.TCP) // not this host's address
	add("10.10.0.1:80", proxier.TCP)    // excluded by configuration
	external := add("203.0.113.7:80", proxier.TCP)
	second := add("10.244.0.1:30080", proxier.TCP)
	busy := proxier.RealServer{Frontend: second, Addr: pod.Addr}

	got := orphans(have, map[proxier.RealServer]int{busy: 2}, evidence{
		device:    setOf([]netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("10.10.0.1"), netip.MustParseAddr("10.96.0.7")}),
		host:      setOf([]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.244.0.1")}),
		nodePorts: map[nodePort]struct{}{{proxier.TCP, 30080}: {}},
		keep:      func(f proxier.Frontend) bool { return f.Addr.Addr() == netip.MustParseAddr("10.10.0.1") },
	})
	if len(got) != 2 || got[0].Frontend != second || got[1].Frontend != external || got[0].Connections != 2 {
		t.Fatalf("got %v", got)
	}
	for now, want := range map[bool]string{
		false: "edit dest 10.244.0.1:30080/tcp 10.244.0.2:8080=0, delete server 203.0.113.7:80/tcp",
		true:  "delete server 10.244.0.1:30080/tcp, delete server 203.0.113.7:80/tcp",
	} {
		if err := have.Clone().Apply(retire(got, now)); err != nil {
			t.Errorf("now %t: %v", now, err)
		}
		var verbs []string
		for _, c := range retire(got, now).Servers {
			verbs = append(verbs, c.String())
		}
		if text := strings.Join(verbs, ", "); text != want {
			t.Errorf("now %t: %s, want %s", now, text, want)
		}
	}
}

// host is a host in memory. It clears one kind of thing per call, as a host
// does on which connections end one by one.
type host struct {
	remains []Remains // one per Find; the last stays
	finds   int
	clears  []bool // what now was
	fault   error  // of the first Clear
}

func (h *host) Find(context.Context) (Remains, error) {
	r := h.remains[min(h.finds, len(h.remains)-1)]
	h.finds++
	return r, nil
}

func (h *host) Clear(_ context.Context, _ Remains, now bool) error {
	h.clears = append(h.clears, now)
	err := h.fault
	h.fault = nil
	return err
}

func TestHandover(t *testing.T) {
	rules := Remains{Chains: []Chain{{Table{NFT, "ip", "nat"}, "KUBE-SERVICES"}}, Sets: []string{"KUBE-CLUSTER-IP"}}
	sets := Remains{Sets: rules.Sets}
	device := Remains{Device: true}
	for _, c := range []struct {
		name    string
		remains []Remains
		fault   error
		keep    bool
		limit   time.Duration
		clears  []bool
		cleared int
		says    []string
	}{
		{name: "nothing", remains: []Remains{{}}},
		{name: "at once", remains: []Remains{rules, {}}, clears: []bool{false}, cleared: 1,
			says: []string{"clearing what kube-proxy left", "nothing of kube-proxy is left"}},
		{name: "bit by bit", remains: []Remains{rules, sets, sets, sets, {}}, clears: []bool{false, false, false, false}, cleared: 2,
			says: []string{"clearing", "waiting for connections", "nothing of kube-proxy is left"}},
		{name: "after an error", remains: []Remains{rules, rules, {}}, fault: errors.New("EBUSY"), clears: []bool{false, false}, cleared: 0,
			says: []string{"clearing", "not cleared yet", "nothing of"}},
		{name: "kube-proxy runs still", remains: []Remains{rules, sets, rules, {}}, clears: []bool{false, false, false}, cleared: 3,
			says: []string{"clearing", "waiting", "rules are back", "nothing of"}},
		{name: "an empty device that may stay", remains: []Remains{device}, keep: true},
		{name: "an empty device that may not", remains: []Remains{device, {}}, clears: []bool{false}, cleared: 1, says: []string{"clearing", "nothing of"}},
		{name: "not for ever", remains: []Remains{sets, {}}, limit: time.Nanosecond, clears: []bool{true}, cleared: 1, says: []string{"clearing", "nothing of"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said strings.Builder
			k, cleared := &host{remains: c.remains, fault: c.fault}, 0
			h := Handover{Host: k, Log: slog.New(slog.NewTextHandler(&said, nil)), Every: time.Microsecond, Cap: c.limit, Keep: c.keep, Cleared: func() { cleared++ }}
			h.Run(t.Context())
			if len(k.clears) != len(c.clears) || cleared != c.cleared {
				t.Fatalf("cleared with now = %v, told %d times; want %v, %d\n%s", k.clears, cleared, c.clears, c.cleared, &said)
			}
			for i := range c.clears {
				if k.clears[i] != c.clears[i] {
					t.Errorf("cleared with now = %v, want %v", k.clears, c.clears)
				}
			}
			lines := strings.Split(strings.TrimSpace(said.String()), "\n")
			if said.Len() == 0 {
				lines = nil
			}
			if len(lines) != len(c.says) {
				t.Fatalf("said\n%s\nwant %d lines", &said, len(c.says))
			}
			for i, want := range c.says {
				if !strings.Contains(lines[i], want) {
					t.Errorf("said %s, want %s", lines[i], want)
				}
			}
		})
	}
}

func TestHandoverEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	k := &host{remains: []Remains{{Sets: []string{"KUBE-CLUSTER-IP"}}}}
	h := Handover{Host: k, Log: slog.New(slog.DiscardHandler), Cleared: cancel}
	h.Run(ctx)
	if k.finds != 1 {
		t.Errorf("looked %d times, want once", k.finds)
	}
}

func TestSummary(t *testing.T) {
	ip := Table{NFT, "ip", "nat"}
	for _, c := range []struct {
		r          Remains
		mode, text string
	}{
		{Remains{}, "", "nothing"},
		{Remains{Tables: []Table{{NFT, "ip", ownTable}}}, "nftables", "1 nftables table"},
		{Remains{Chains: []Chain{{ip, "KUBE-SERVICES"}, {ip, "KUBE-SVC-CDGGSHYLG3RE2FKL"}}, Jumps: make([]Jump, 2)}, "iptables", "2 iptables jumps, 2 iptables chains"},
		{Remains{Chains: []Chain{{ip, "KUBE-SERVICES"}}, Device: true, Addresses: make([]netip.Addr, 1)}, "ipvs", "1 iptables chain, 1 address of kube-ipvs0"},
		{Remains{Device: true}, "ipvs", "kube-ipvs0"},
	} {
		if c.r.Mode() != c.mode || c.r.String() != c.text {
			t.Errorf("%q, %q; want %q, %q", c.r.Mode(), c.r.String(), c.mode, c.text)
		}
	}
}

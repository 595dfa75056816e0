// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

func TestWhatIsAFirewall(t *testing.T) {
	drop, acceptance := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	filter := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"}
	for _, c := range []struct {
		name string
		in   nftables.Chain
		wall bool
	}{
		{"input that drops", nftables.Chain{Table: filter, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Policy: &drop}, true},
		{"forward that drops", nftables.Chain{Table: filter, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Policy: &drop}, true},
		{"input that accepts", nftables.Chain{Table: filter, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Policy: &acceptance}, false},
		{"output that drops", nftables.Chain{Table: filter, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Policy: &drop}, false},
		{"no base chain", nftables.Chain{Table: filter}, false},
		{"of a bridge", nftables.Chain{Table: &nftables.Table{Family: nftables.TableFamilyBridge, Name: "filter"},
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Policy: &drop}, false},
		{"ours", nftables.Chain{Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: ownTable},
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Policy: &drop}, false},
		{"firewalld's", nftables.Chain{Name: "filter_FORWARD", Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: firewalld},
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Policy: &acceptance}, true},
		{"another of firewalld's", nftables.Chain{Name: "filter_FORWARD_POLICIES", Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: firewalld}}, false},
	} {
		if w, passes := asWall(&c.in); (passes && w.drops) != c.wall {
			t.Errorf("%s: a firewall %t, want %t", c.name, !c.wall, c.wall)
		}
	}
}

// Rules for one chain, and which of the service CIDRs it can see.
func TestRules(t *testing.T) {
	i := Integration{Services: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:96::/112")}}
	for family, want := range map[nftables.TableFamily]int{nftables.TableFamilyIPv4: 4, nftables.TableFamilyIPv6: 4, nftables.TableFamilyINet: 5} {
		for _, table := range []string{"filter", "mine"} {
			w := wall{table: &nftables.Table{Family: family, Name: table}, input: true}
			if got := len(i.rules(w)); got != want {
				t.Errorf("%s: %d rules for input, want %d", w.where(), got, want)
			}
			w.input = false
			if got := len(i.rules(w)); got != 2 {
				t.Errorf("%s: %d rules for forward, want 2", w.where(), got)
			}
		}
	}
}

func TestPrefixIsCompared(t *testing.T) {
	rule, ok := toPrefix(nftables.TableFamilyIPv4, netip.MustParsePrefix("10.100.0.0/12"))
	if !ok || len(rule) != 3 {
		t.Fatalf("%v, %t", rule, ok)
	}
	if mask := rule[1].(*expr.Bitwise).Mask; !bytes.Equal(mask, []byte{255, 240, 0, 0}) {
		t.Errorf("mask %v", mask)
	}
	if net := rule[2].(*expr.Cmp).Data; !bytes.Equal(net, []byte{10, 96, 0, 0}) {
		t.Errorf("network %v", net)
	}
}

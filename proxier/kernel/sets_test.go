// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

func TestElementsComeBack(t *testing.T) {
	for _, texts := range [][]string{
		{"0.0.0.0/0"}, {"0.0.0.0/1", "128.0.0.0/1"}, {"10.0.0.0/8", "11.0.0.0/8", "255.255.255.255/32"},
		{"10.96.0.0/16", "10.98.0.7/32"}, {"::/0"}, {"fd00::/64", "ff00::/8"}, {"fd00:0:0:1::/64", "fd00::/64"},
	} {
		var want []proxier.Element
		var raw []nftables.SetElement
		for _, text := range texts {
			e := proxier.Element{Set: proxier.SetServiceCIDRs, Prefix: netip.MustParsePrefix(text)}
			want = append(want, e)
			raw = append(raw, encodeElement(e)...)
		}
		rand.Shuffle(len(raw), func(i, j int) { raw[i], raw[j] = raw[j], raw[i] })
		got, err := decodeElements(proxier.SetServiceCIDRs, want[0].Prefix.Addr().Is4(), raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range want {
			if !slices.Contains(got, e) {
				t.Errorf("%v came back as %v", texts, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%v came back as %v", texts, got)
		}
	}
}

func TestRangesThatAreNoPrefix(t *testing.T) {
	for _, c := range [][2]string{{"10.0.0.1", "10.0.0.3"}, {"10.0.0.0", "10.0.0.3"}, {"10.0.0.5", ""}} {
		raw := []nftables.SetElement{{Key: netip.MustParseAddr(c[0]).AsSlice()}}
		if c[1] != "" {
			raw = append(raw, nftables.SetElement{Key: netip.MustParseAddr(c[1]).AsSlice(), IntervalEnd: true})
		}
		if got, err := decodePrefixes(proxier.SetPodCIDRs, raw); err == nil {
			t.Errorf("%v is read as %v", c, got)
		}
	}
}

// An event's transaction is ours if one of our threads made it.
func TestDriftIsWhatOthersDelete(t *testing.T) {
	event := func(kind uint16, table string) nl.Message {
		a := attrs{buf: make([]byte, 4)}
		a.bytes(1, append([]byte(table), 0))
		return nl.Message{Header: nl.Header{Type: nl.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)}, Data: a.buf}
	}
	end := func(task int) nl.Message {
		a := attrs{buf: make([]byte, 4)}
		a.be32(unix.NFTA_GEN_PROC_PID, uint32(task))
		return nl.Message{Header: nl.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN}, Data: a.buf}
	}
	const other = 1 << 30 // above every task number
	for _, c := range []struct {
		name   string
		events []nl.Message
		drift  bool
	}{
		{"our own deletion", []nl.Message{event(unix.NFT_MSG_DELSETELEM, TableName), end(unix.Gettid())}, false},
		{"somebody's deletion", []nl.Message{event(unix.NFT_MSG_DELTABLE, TableName), end(other)}, true},
		{"somebody's rule", []nl.Message{event(unix.NFT_MSG_NEWRULE, TableName), end(other)}, false},
		{"another table", []nl.Message{event(unix.NFT_MSG_DELTABLE, "somebody"), end(other)}, false},
		{"not finished", []nl.Message{event(unix.NFT_MSG_DELRULE, TableName)}, false},
		{"ours, then somebody's end", []nl.Message{event(unix.NFT_MSG_DELRULE, TableName), end(unix.Gettid()), end(other)}, false},
		{"cut short", []nl.Message{{Header: nl.Header{Type: unix.NFNL_SUBSYS_NFTABLES << 8}, Data: binary.NativeEndian.AppendUint16(nil, 7)}}, false},
	} {
		var tr transaction
		if got := tr.see(c.events); (got != "") != c.drift {
			t.Errorf("%s: drift %q, want any: %t", c.name, got, c.drift)
		}
	}
}

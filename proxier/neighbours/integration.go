// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// comment is in each rule of ours, and how it is found again.
const comment = "muster-proxier"

// Marks that the proxier's own rules give to packets of Services, before any
// firewall's chains in input and forward.
const (
	markCapture    = 0x1000 // for an external address
	markMasquerade = 0x4000 // the usual masqueradeBit
)

// Integration is what of Services a firewall has to accept.
type Integration struct {
	Services []netip.Prefix // service CIDRs; whatever gets there the proxier has accepted or refused
}

// Ensure puts the accepting rules into every firewall that drops and has none.
// It says which it changed. In tables of iptables the rules are such that
// iptables shows them.
func (i Integration) Ensure() (changed []string, err error) {
	walls, err := firewalls()
	if err != nil {
		return nil, err
	}
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("connect to nftables: %w", err)
	}
	for _, w := range walls {
		if !w.drops || len(w.ours) > 0 {
			continue
		}
		for _, rule := range i.rules(w) {
			// Each goes to the top: whatever would drop comes later.
			c.InsertRule(&nftables.Rule{
				Table: w.table, Chain: &nftables.Chain{Name: w.chain, Table: w.table}, Exprs: rule, UserData: w.words().note(),
			})
		}
		changed = append(changed, w.where())
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("add rules that accept Services to %v: %w", changed, err)
	}
	return changed, nil
}

// Remove takes the rules out again, also where the firewall no longer drops.
// It can be repeated.
func Remove() error {
	walls, err := firewalls()
	if err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	for _, w := range walls {
		for _, r := range w.ours {
			if err := c.DelRule(&nftables.Rule{Table: w.table, Chain: &nftables.Chain{Name: w.chain, Table: w.table}, Handle: r.Handle}); err != nil {
				return fmt.Errorf("remove a rule of %s: %w", w.where(), err)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove the rules that accept Services: %w", err)
	}
	return nil
}

// isOurs looks for the comment.
func isOurs(r *nftables.Rule) bool {
	if text, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok && text == comment {
		return true
	}
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		m, ok := e.(*expr.Match)
		if !ok || m.Name != "comment" {
			return false
		}
		text, ok := m.Info.(*xt.Comment)
		return ok && string(*text) == comment
	})
}

// rules are those for one chain, in iptables' words:
//
//	-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
//	-m mark --mark 0x4000/0x4000 -j ACCEPT
//	-m mark --mark 0x1000/0x1000 -j ACCEPT     only input
//	-d SERVICE-CIDR -j ACCEPT                  only input
func (i Integration) rules(w wall) [][]expr.Any {
	say := w.words()
	list := [][]expr.Any{say.accept(say.established()), say.accept(say.marked(markMasquerade))}
	if !w.input {
		return list
	}
	list = append(list, say.accept(say.marked(markCapture)))
	for _, p := range i.Services {
		if rule, ok := toPrefix(w.table.Family, p); ok {
			list = append(list, say.accept(rule))
		}
	}
	return list
}

// toPrefix compares the destination; ok is false if the chain sees no packets
// of the prefix' family.
func toPrefix(family nftables.TableFamily, p netip.Prefix) (rule []expr.Any, ok bool) {
	offset, size, proto := uint32(24), uint32(16), byte(unix.NFPROTO_IPV6)
	if p.Addr().Is4() {
		offset, size, proto = 16, 4, unix.NFPROTO_IPV4
	}
	switch {
	case family == nftables.TableFamilyINet:
		rule = append(rule, &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}})
	case (family == nftables.TableFamilyIPv4) != p.Addr().Is4():
		return nil, false
	}
	mask := make([]byte, size)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return append(rule,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()}), true
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/muster-project/muster/proxier"
)

// Limits of one transaction. An attribute's length has 16 bits, so elements
// travel in several messages; all of them go in one send, for which the
// socket's buffer must have room.
const (
	elementsPerMessage = 500
	sendBuffer         = 64 << 20
	receiveBuffer      = 8 << 20
)

// dialNFT prepares a transaction. Each has a socket of its own: an error
// leaves answers behind in the old one.
func dialNFT() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(receiveBuffer))
	}))
}

// prepareTable makes the table with its sets and rules. It is one
// transaction: rules are replaced at once, and sets keep what they hold.
func prepareTable(r rules) error {
	c, err := dialNFT()
	if err != nil {
		return err
	}
	strange, err := strangers(c, r)
	if err != nil {
		return err
	}
	t := c.AddTable(table())
	for _, s := range proxier.Sets() {
		for _, v4 := range []bool{true, false} {
			if err := c.AddSet(kernelSet(s, v4), nil); err != nil {
				return fmt.Errorf("set %s: %w", setName(s, v4), err)
			}
		}
	}
	policy := nftables.ChainPolicyAccept
	all := r.chains()
	for _, ch := range all {
		out := &nftables.Chain{Name: ch.name, Table: t, Type: ch.kind}
		if ch.hook != nil {
			out.Hooknum, out.Priority, out.Policy = ch.hook, &ch.priority, &policy
		}
		c.AddChain(out)
		c.FlushChain(out)
	}
	for _, ch := range strange {
		c.FlushChain(ch)
	}
	for _, ch := range all {
		for _, rule := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: ch.name, Table: t}, Exprs: rule})
		}
	}
	for _, ch := range strange {
		c.DelChain(ch)
	}
	return wrap("make nftables table inet "+TableName, c.Flush())
}

// strangers are chains of our table that this version does not have: from
// another version, or made by hand.
func strangers(c *nftables.Conn, r rules) ([]*nftables.Chain, error) {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	ours := r.chains()
	var strange []*nftables.Chain
	for _, ch := range all {
		known := slices.ContainsFunc(ours, func(o chain) bool { return o.name == ch.Name })
		if ch.Table.Name == TableName && !known {
			strange = append(strange, ch)
		}
	}
	return strange, nil
}

// hasTable tells whether our table exists.
func hasTable() (bool, error) {
	c, err := dialNFT()
	if err != nil {
		return false, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list nftables tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }), nil
}

// deleteTable removes the table and all in it, if it is there.
func deleteTable() error {
	there, err := hasTable()
	if err != nil || !there {
		return err
	}
	c, err := dialNFT()
	if err != nil {
		return err
	}
	c.DelTable(table())
	return wrap("delete nftables table inet "+TableName, c.Flush())
}

// readSets returns the elements of all our sets.
func readSets() (map[proxier.Element]struct{}, error) {
	c, err := dialNFT()
	if err != nil {
		return nil, err
	}
	all := map[proxier.Element]struct{}{}
	for _, s := range proxier.Sets() {
		for _, v4 := range []bool{true, false} {
			in, err := c.GetSetElements(kernelSet(s, v4))
			if err != nil {
				return nil, fmt.Errorf("read nftables set %s: %w", setName(s, v4), err)
			}
			list, err := decodeElements(s, v4, in)
			if err != nil {
				return nil, err
			}
			for _, e := range list {
				all[e] = struct{}{}
			}
		}
	}
	return all, nil
}

// applySets makes the changes in one transaction: all or none.
func applySets(changes []proxier.SetChange) error {
	if len(changes) == 0 {
		return nil
	}
	c, err := dialNFT()
	if err != nil {
		return err
	}
	// Deletions first: a prefix may replace one it overlaps.
	for _, del := range []bool{true, false} {
		if err := queue(c, changes, del); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change %d elements of nftables table inet %s, the first %s: %w", len(changes), TableName, changes[0], err)
	}
	return nil
}

func queue(c *nftables.Conn, changes []proxier.SetChange, del bool) error {
	type key struct {
		set proxier.Set
		v4  bool
	}
	bySet := map[key][]nftables.SetElement{}
	for _, ch := range changes {
		if ch.Del == del {
			k := key{ch.Element.Set, ch.Element.Prefix.Addr().Is4()}
			bySet[k] = append(bySet[k], encodeElement(ch.Element)...)
		}
	}
	for k, list := range bySet {
		set := kernelSet(k.set, k.v4)
		for part := range slices.Chunk(list, elementsPerMessage) {
			send := c.SetAddElements
			if del {
				send = c.SetDeleteElements
			}
			if err := send(set, part); err != nil {
				return fmt.Errorf("encode elements of set %s: %w", set.Name, err)
			}
		}
	}
	return nil
}

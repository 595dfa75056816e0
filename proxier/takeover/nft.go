// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Limits of one transaction: the kernel acknowledges every message of it at
// once, and all of that has to fit into the socket.
const (
	messagesPerSend = 1000
	socketBuffer    = 8 << 20 // bytes
)

// iptablesTables are those that kube-proxy writes to.
func iptablesTables() []string { return []string{"nat", "filter", "mangle"} }

func families() map[string]nftables.TableFamily {
	return map[string]nftables.TableFamily{"ip": nftables.TableFamilyIPv4, "ip6": nftables.TableFamilyIPv6}
}

func dialNFT() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(socketBuffer), c.SetReadBuffer(socketBuffer))
	}))
}

// findNFT looks at nftables: kube-proxy's own tables, and those of iptables.
// forwards is Host.Forwards.
func findNFT(r *Remains, forwards bool) error {
	c, err := dialNFT()
	if err != nil {
		return err
	}
	for _, family := range []string{"ip", "ip6"} {
		tables, err := c.ListTablesOfFamily(families()[family])
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue // this kernel has no nftables for the family
		}
		if err != nil {
			return fmt.Errorf("list nftables tables of %s: %w", family, err)
		}
		if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == ownTable }) {
			r.Tables = append(r.Tables, Table{NFT, family, ownTable})
		}
		chains, err := c.ListChainsOfTableFamily(families()[family])
		if err != nil {
			return fmt.Errorf("list nftables chains of %s: %w", family, err)
		}
		for _, name := range iptablesTables() {
			if err := findChains(c, r, Table{NFT, family, name}, chains, forwards); err != nil {
				return err
			}
		}
	}
	return nil
}

// findChains looks at one table of iptables. Only the rules of others' chains
// are read: kube-proxy may have a hundred thousand.
func findChains(c *nftables.Conn, r *Remains, table Table, all []*nftables.Chain, forwards bool) error {
	var l layout
	for _, ch := range all {
		if ch.Table.Name != table.Name {
			continue
		}
		if ownChain(ch.Name) {
			l.own = append(l.own, ch.Name)
			continue
		}
		l.others = append(l.others, otherChain{
			name:  ch.Name,
			base:  ch.Hooknum != nil,
			drops: !forwards && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop,
		})
	}
	if len(l.own) == 0 {
		return nil
	}
	for i, o := range l.others {
		rules, err := c.GetRules(nftTable(table), &nftables.Chain{Name: o.name})
		if err != nil {
			return fmt.Errorf("list the rules of %s: %w", Chain{table, o.name}, err)
		}
		for _, rule := range rules {
			if to, ok := target(rule.Exprs); ok {
				l.others[i].jumps = append(l.others[i].jumps, Jump{From: Chain{table, o.name}, To: to, Handle: rule.Handle})
			}
		}
	}
	l.report(r, table)
	return nil
}

// target is the chain that a rule leads to.
func target(rule []expr.Any) (string, bool) {
	for _, e := range rule {
		if v, ok := e.(*expr.Verdict); ok && (v.Kind == expr.VerdictJump || v.Kind == expr.VerdictGoto) {
			return v.Chain, true
		}
	}
	return "", false
}

func nftTable(t Table) *nftables.Table {
	return &nftables.Table{Family: families()[t.Family], Name: t.Name}
}

// clearNFT removes tables, jumps and chains, in this order: when the jumps
// are gone no packet reaches the chains any more, which then may go in parts.
func clearNFT(r Remains) error {
	err := inTransactions("delete kube-proxy's nftables tables and the jumps to its chains", func(add func(func(*nftables.Conn) error)) {
		for _, t := range r.Tables {
			add(func(c *nftables.Conn) error { c.DelTable(nftTable(t)); return nil })
		}
		for _, j := range r.Jumps {
			if j.From.Table.Backend == NFT {
				add(func(c *nftables.Conn) error {
					t := nftTable(j.From.Table)
					return c.DelRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: j.From.Name, Table: t}, Handle: j.Handle})
				})
			}
		}
	})
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(*nftables.Conn, *nftables.Chain)
	}{
		{"flush kube-proxy's chains", (*nftables.Conn).FlushChain},
		{"delete kube-proxy's chains", (*nftables.Conn).DelChain},
	} {
		err := inTransactions(step.what, func(add func(func(*nftables.Conn) error)) {
			for _, ch := range r.Chains {
				if ch.Table.Backend == NFT {
					add(func(c *nftables.Conn) error {
						step.do(c, &nftables.Chain{Name: ch.Name, Table: nftTable(ch.Table)})
						return nil
					})
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inTransactions queues what collect adds and sends it in as few transactions
// as fit.
func inTransactions(what string, collect func(add func(func(*nftables.Conn) error))) error {
	var all []func(*nftables.Conn) error
	collect(func(f func(*nftables.Conn) error) { all = append(all, f) })
	for part := range slices.Chunk(all, messagesPerSend) {
		c, err := dialNFT()
		if err != nil {
			return err
		}
		for _, f := range part {
			if err := f(c); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/walk"
)

// way is what becomes of a connection from one client to a frontend.
type way struct {
	From    string   `json:"from"`
	Verdict string   `json:"verdict"`
	Steps   []string `json:"steps"`
	To      []string `json:"to,omitempty"`
}

// client is where a connection is asked about to come from.
type client struct {
	addr  netip.Addr
	iface string
}

// parseClient reads ADDRESS or, where pods are told by their interfaces,
// ADDRESS%INTERFACE. Empty is nobody.
func parseClient(text string) (client, error) {
	if text == "" {
		return client{}, nil
	}
	addr, iface, _ := strings.Cut(text, "%")
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return client{}, fmt.Errorf("from: %w", err)
	}
	return client{a.Unmap(), iface}, nil
}

// to follows a connection through the kernel as the loop knows it. It returns
// nil where the families differ: there is no such connection.
func (c client) to(f proxier.Frontend, have proxier.State, h walk.Host) *way {
	if !c.addr.IsValid() || c.addr.Is4() != f.Addr.Addr().Is4() {
		return nil
	}
	if c.addr.IsLoopback() {
		h.Addrs = append(h.Addrs[:len(h.Addrs):len(h.Addrs)], c.addr)
	}
	out := walk.Walk(have, h, walk.Packet{Source: c.addr, Dest: f.Addr, Proto: f.Proto, Interface: c.iface})
	w := &way{From: c.addr.String(), Verdict: out.Verdict.String()}
	for _, s := range out.Steps {
		w.Steps = append(w.Steps, s.String())
	}
	for _, e := range out.Endpoints {
		w.To = append(w.To, e.String())
	}
	return w
}

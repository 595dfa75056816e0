// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// fillDefaults is the one place where what the file leaves open is decided.
// What ~/.ssh/config may decide stays open: see SSH.
func fillDefaults(f *file) {
	n := &f.inv.Network
	if n.Pods == nil {
		n.Pods = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	}
	if n.Services == nil {
		n.Services = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	}
	n.Domain = cmp.Or(n.Domain, "cluster.local")
	n.CNI = cmp.Or(n.CNI, flannel)

	yes := true
	f.ssh = f.ssh.over(sshText{agent: &yes, SSH: SSH{FirstContact: Refuse}})
	for i := range f.hosts {
		f.hosts[i].ssh = f.hosts[i].ssh.over(f.ssh)
	}
	if cp := f.firstControlPlane(); f.inv.API.Endpoint == "" && cp.IsValid() {
		f.inv.API.Endpoint = net.JoinHostPort(cp.String(), "6443")
	}
}

func (f file) firstControlPlane() netip.Addr {
	var first hostText
	for _, h := range f.hosts {
		if h.Has(ControlPlane) && (!first.Address.IsValid() || h.Name < first.Name) {
			first = h
		}
	}
	return first.Address
}

// over fills what s leaves open from d. A bastion inherits from the section it
// is written in: its keys open the same doors, its host key never does.
func (s sshText) over(d sshText) sshText {
	s.Port = cmp.Or(s.Port, d.Port)
	s.User = cmp.Or(s.User, d.User)
	s = s.inherit(d)
	if s.bastion == nil && !s.direct {
		s.bastion = d.bastion
	} else if s.bastion != nil {
		b := s.bastion.through(s)
		s.bastion = &b
	}
	return s
}

// through gives the hop s as seen from the section it is written in.
func (s sshText) through(section sshText) sshText {
	s = s.inherit(section)
	if s.bastion != nil {
		b := s.bastion.through(s)
		s.bastion = &b
	}
	return s
}

func (s sshText) inherit(d sshText) sshText {
	if s.Keys == nil {
		s.Keys = d.Keys
	}
	if s.KnownHosts == nil {
		s.KnownHosts = d.KnownHosts
	}
	if s.agent == nil {
		s.agent = d.agent
	}
	s.FirstContact = cmp.Or(s.FirstContact, d.FirstContact)
	return s
}

// value is the section once nothing more can be filled in.
func (s sshText) value() SSH {
	out := s.SSH
	out.Keys, out.KnownHosts = slices.Clone(s.Keys), slices.Clone(s.KnownHosts)
	out.Agent = s.agent != nil && *s.agent
	if s.bastion != nil {
		b := s.bastion.value()
		out.Bastion = &b
	}
	return out
}

// inventory is the value of a file without faults, in normal order.
func (f file) inventory() Inventory {
	inv := f.inv
	slices.Sort(inv.API.Names)
	inv.API.Names = slices.Compact(inv.API.Names)
	for _, t := range f.hosts {
		h := t.Host
		h.SSH = t.ssh.value()
		slices.Sort(h.Roles)
		slices.SortFunc(h.Taints, func(a, b Taint) int {
			return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Value, b.Value), cmp.Compare(a.Effect, b.Effect))
		})
		if len(h.Labels) == 0 {
			h.Labels = nil
		}
		inv.Hosts = append(inv.Hosts, h)
	}
	slices.SortFunc(inv.Hosts, func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })
	return inv
}

// ExpandHome replaces a leading "~/" by the home directory.
func ExpandHome(p, home string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return path.Join(home, rest)
	}
	return p
}

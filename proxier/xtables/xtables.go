// SPDX-License-Identifier: Apache-2.0

// Package xtables reads the tables of iptables-legacy from the kernel: what
// chains there are and what happens to packets that none of them decides. It
// starts no program, and it does not change anything: the kernel takes these
// tables only as a whole.
//
// iptables-nft has its tables in nftables, and is not seen here.
package xtables

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Family is one of the two address families.
type Family struct {
	Name     string // ip or ip6
	names    string // the kernel's list of the tables in use
	domain   int    // of sockets
	level    int    // of the option
	headers  int    // size of an entry without its matches and its target, in bytes
	offsets  int    // where in an entry the offsets of target and next entry are
	optInfo  int
	optEntry int
}

// Families are IPv4 and IPv6, with sizes and numbers of linux/netfilter_ipv4/
// ip_tables.h and linux/netfilter_ipv6/ip6_tables.h.
func Families() []Family {
	return []Family{
		{Name: "ip", names: "/proc/thread-self/net/ip_tables_names", domain: 2, level: 0, headers: 112, offsets: 88, optInfo: 64, optEntry: 65},
		{Name: "ip6", names: "/proc/thread-self/net/ip6_tables_names", domain: 10, level: 41, headers: 168, offsets: 140, optInfo: 64, optEntry: 65},
	}
}

// Tables lists the tables in use. Asking for any other would make it.
func (f Family) Tables() ([]string, error) {
	data, err := os.ReadFile(f.names)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the tables of iptables-legacy: %w", err)
	}
	names := strings.Fields(string(data))
	slices.Sort(names)
	return names, nil
}

// Table is what one table has.
type Table struct {
	Chains []string // made by somebody, in the kernel's order
	Drops  []string // built-in chains whose policy is to drop
}

// hooks are the built-in chains, by the kernel's numbers of them.
func hooks() []string { return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} }

// Read reads a table in use.
func (f Family) Read(table string) (Table, error) {
	i, err := f.info(table)
	if err != nil {
		return Table{}, fmt.Errorf("read the table %s of %s in iptables-legacy: %w", table, f.Name, err)
	}
	blob, err := f.entries(table, i.size)
	if err != nil {
		return Table{}, fmt.Errorf("read the table %s of %s in iptables-legacy: %w", table, f.Name, err)
	}
	t, err := f.parse(i, blob)
	if err != nil {
		return Table{}, fmt.Errorf("read the table %s of %s in iptables-legacy: %w", table, f.Name, err)
	}
	return t, nil
}

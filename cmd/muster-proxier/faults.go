// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// faults collects what is wrong with the file, each with its path.
type faults []error

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

func (f *faults) prefixes(path string, texts []string) []netip.Prefix {
	var list []netip.Prefix
	for i, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			f.add("%s[%d]: %q: not a prefix like 10.0.0.0/8", path, i, text)
			continue
		}
		list = append(list, p.Masked())
	}
	return list
}

func (f *faults) addrPort(path, text string) {
	if at, err := netip.ParseAddrPort(text); err != nil || at.Port() == 0 {
		f.add("%s: %q: not an address with a port", path, text)
	}
}

func (f *faults) oneOf(path, value string, choice ...string) {
	if !slices.Contains(choice, value) {
		named := slices.DeleteFunc(choice, func(c string) bool { return c == "" }) // which is not to set it
		f.add("%s: %q: not one of %s", path, value, strings.Join(named, ", "))
	}
}

func (f *faults) within(path string, value, least, most int64) {
	if value < least || value > most {
		f.add("%s: %d: not between %d and %d", path, value, least, most)
	}
}

// notNegative checks durations by path.
func (f *faults) notNegative(list map[string]time.Duration) {
	for _, path := range sortedKeys(list) {
		if list[path] < 0 {
			f.add("%s: %s: less than 0", path, list[path])
		}
	}
}

// periods checks a pair as kube-proxy does.
func (f *faults) periods(section string, sync, minSync metav1.Duration) {
	switch {
	case sync.Duration <= 0:
		f.add("%s.syncPeriod: %s: not more than 0", section, sync.Duration)
	case minSync.Duration < 0:
		f.add("%s.minSyncPeriod: %s: less than 0", section, minSync.Duration)
	case minSync.Duration > sync.Duration:
		f.add("%s.minSyncPeriod: %s: more than the syncPeriod of %s", section, minSync.Duration, sync.Duration)
	}
}

// bindAddress is kube-proxy's old name for the node's address; unspecified
// means that the Node says it.
func (f *faults) bindAddress(text string) []netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		f.add("bindAddress: %q: not an IP address", text)
		return nil
	}
	if addr.IsUnspecified() {
		return nil
	}
	return []netip.Addr{addr.Unmap()}
}

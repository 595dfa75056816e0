// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kerneltest"
	"github.com/muster-project/muster/proxier/proxiertest"
)

// Tests with the build tag `kernel` need root and a kernel with IPVS, and fail
// where they cannot run.
func TestMain(m *testing.M) {
	if order := os.Getenv(asVictim); order != "" {
		os.Exit(victimMain(order))
	}
	os.Exit(kerneltest.Main(m, roomForConnections))
}

// roomForConnections raises a limit that all namespaces share and only the
// first may change. A machine of one gigabyte has room for eight seconds of a
// thousand connections each, and drops packets after that.
func roomForConnections() error {
	const limit = "/proc/sys/net/netfilter/nf_conntrack_max"
	if err := os.WriteFile(limit, []byte("262144"), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make room for the connections of the tests: %w", err)
	}
	return nil
}

func TestRealKernel(t *testing.T) {
	proxiertest.Suite(t, func(t *testing.T) proxier.Kernel { return fresh(t) })
}

// fresh cleans the namespace and opens a Kernel in it.
func fresh(t testing.TB) *Kernel {
	t.Helper()
	return freshWith(t, Options{})
}

func freshWith(t testing.TB, o Options) *Kernel {
	t.Helper()
	giveAddresses(t)
	dir := t.TempDir()
	o.StateDir = dir
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(k.Close(), CleanUp(context.WithoutCancel(t.Context()), dir), flushAll()); err != nil {
			t.Error(err)
		}
	})
	if err := flushAll(); err != nil {
		t.Fatal(err)
	}
	return k
}

// flushAll removes every virtual server of the namespace, foreign ones of a
// test included.
func flushAll() error {
	v, err := dialIPVS()
	if err != nil {
		return err
	}
	defer v.close()
	all, err := v.options()
	if err != nil {
		return err
	}
	var changes []proxier.ServerChange
	for f := range all {
		changes = append(changes, proxier.ServerChange{Verb: proxier.DelServer, Frontend: f})
	}
	return v.apply(changes)
}

// BenchmarkRealKernel is the whole way from an event to the kernel.
func BenchmarkRealKernel(b *testing.B) {
	proxiertest.Bench(b, func(t testing.TB) proxier.Kernel { return fresh(t) })
}

func giveAddresses(t testing.TB) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, a := range proxiertest.NodeAddrs() {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Flags: syscall.IFA_F_NODAD}
		if err := netlink.AddrReplace(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkProbe is the look at IPVS that every half second takes.
func BenchmarkProbe(b *testing.B) {
	k := fresh(b)
	if err := k.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	var plan proxier.Plan
	var ask []proxier.Frontend
	for i := range 10_000 {
		f := proxier.Frontend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80), Proto: proxier.TCP}
		plan.Servers = append(plan.Servers, proxier.ServerChange{Verb: proxier.AddServer, Frontend: f, Options: proxier.Options{Scheduler: "rr"}})
		for j := range 5 {
			dest := proxier.Dest{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j), byte(i)}), 8080), Weight: 1}
			plan.Servers = append(plan.Servers, proxier.ServerChange{Verb: proxier.AddDest, Frontend: f, Dest: dest})
		}
		if i%2500 == 0 {
			ask = append(ask, f)
		}
	}
	if err := k.Apply(b.Context(), plan); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := k.Probe(b.Context(), ask); err != nil {
			b.Fatal(err)
		}
	}
}

// apply is try for changes of which each one matters.
func (v *ipvs) apply(changes []proxier.ServerChange) error {
	refused, err := v.try(changes)
	return errors.Join(refused.Err(), err)
}

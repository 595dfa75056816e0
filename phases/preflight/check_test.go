// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/inventory"
)

// fit is a host that passes every check in every role.
func fit() facts.Host {
	return facts.Host{
		Arch: "amd64", CPUs: 2, MemoryMiB: 4096, Systemd: true, CgroupV2: true, Cgroups: []string{"cpu", "io", "memory", "pids"},
		Disks:     map[string]facts.Disk{"/opt": {TotalMiB: 20000, FreeMiB: 10000}, "/var/lib": {TotalMiB: 20000, FreeMiB: 10000}},
		Addresses: []string{"127.0.0.1", "192.0.2.1"}, Listening: []int{22}, IPVS: true,
		Features: map[string]bool{"overlay": true, "bridge-nf": true, "seccomp": true, "conntrack": true},
		CPUMHz:   true, Resolver: "/etc/resolv.conf",
	}
}

func cluster(hosts ...inventory.Host) inventory.Inventory {
	return inventory.Inventory{Cluster: "demo", Hosts: hosts}
}

func host(name string, roles ...inventory.Role) inventory.Host {
	return inventory.Host{Name: name, Address: netip.MustParseAddr("192.0.2.1"), Roles: roles}
}

// judge gives "check: measured" of each finding about one host.
func judge(h inventory.Host, f facts.Host) []string {
	var found []string
	for _, finding := range Check(cluster(h), map[string]facts.Host{h.Name: f}, nil) {
		found = append(found, finding.Check+": "+finding.Measured)
	}
	return found
}

const (
	cp     = inventory.ControlPlane
	etcd   = inventory.Etcd
	worker = inventory.Worker
)

func TestFitHostsPass(t *testing.T) {
	for _, roles := range [][]inventory.Role{{cp, etcd}, {worker}, {etcd}, {cp, etcd, worker}} {
		if found := judge(host("h", roles...), fit()); found != nil {
			t.Errorf("%v: %q", roles, found)
		}
	}
}

// tried are hosts that fail a check, and hosts near the limit that pass it.
var tried = []struct {
	name   string
	role   inventory.Role
	change func(*facts.Host)
	want   string // empty: passes
}{
	{"systemd", worker, func(f *facts.Host) { f.Systemd = false }, "systemd does not run"},
	{"arch", worker, func(f *facts.Host) { f.Arch = "riscv64" }, "riscv64"},
	{"cluster", worker, func(f *facts.Host) { f.Cluster = "other" }, "belongs to cluster other"},
	{"cluster", worker, func(f *facts.Host) { f.Cluster = "demo" }, ""},
	{"unchangeable", worker, func(f *facts.Host) {
		f.Cluster, f.Mark = "demo", "cluster: demo\nhost: h\naddress: 192.0.2.1\ncontrol plane: \netcd: old\n"
	}, `it has "etcd: old", the file "etcd: "`},
	{"unchangeable", worker, func(f *facts.Host) { f.Cluster, f.Mark = "demo", Mark(cluster(host("h", worker)), host("h", worker)) }, ""},
	{"foreign-kubernetes", worker, func(f *facts.Host) { f.Foreign = []string{"k3s.service", "docker.service"} }, "k3s.service, docker.service"},
	{"address", worker, func(f *facts.Host) { f.Addresses = []string{"127.0.0.1", "192.0.2.11"} }, "192.0.2.1 is none of 127.0.0.1, 192.0.2.11"},
	{"cgroup-v2", worker, func(f *facts.Host) { f.CgroupV2 = false }, "cgroup v1"},
	{"cgroup-controllers", worker, func(f *facts.Host) { f.Cgroups = []string{"cpu", "io"} }, "missing memory, pids"},
	{"kernel-features", worker, func(f *facts.Host) { f.Features = map[string]bool{"overlay": true, "seccomp": true} }, "missing bridge-nf, conntrack"},
	{"kernel-features", etcd, func(f *facts.Host) { f.Features = nil }, ""},
	{"ipvs", worker, func(f *facts.Host) { f.IPVS = false }, "the kernel has no ip_vs"},
	{"ipvs", etcd, func(f *facts.Host) { f.IPVS = false }, ""},
	{"programs", worker, func(f *facts.Host) { f.Missing = []string{"nft", "mount"} }, "missing nft, mount"},
	{"swap", worker, func(f *facts.Host) { f.SwapMiB = 512 }, "512 MiB of swap"},
	{"memory", cp, func(f *facts.Host) { f.MemoryMiB = minMemoryControlPlane - 1 }, fmt.Sprintf("%d MiB", minMemoryControlPlane-1)},
	{"memory", cp, func(f *facts.Host) { f.MemoryMiB = minMemoryControlPlane }, ""},
	{"memory", worker, func(f *facts.Host) { f.MemoryMiB = minMemoryWorker - 1 }, fmt.Sprintf("%d MiB", minMemoryWorker-1)},
	{"memory", worker, func(f *facts.Host) { f.MemoryMiB = minMemoryWorker }, ""},
	{"memory", etcd, func(f *facts.Host) { f.MemoryMiB = minMemoryWorker - 1 }, ""},
	{"disk", worker, func(f *facts.Host) {
		f.Disks = map[string]facts.Disk{"/opt": {FreeMiB: 1023}, "/var/lib": {FreeMiB: 2047}}
	},
		"1023 MiB free in /opt, 2047 MiB free in /var/lib"},
	{"disk", worker, func(f *facts.Host) {
		f.Disks = map[string]facts.Disk{"/opt": {FreeMiB: 1024}, "/var/lib": {FreeMiB: 2048}}
	}, ""},
	{"disk", worker, func(f *facts.Host) { f.Disks, f.Cluster = nil, "demo" }, ""},
	{"ports", worker, func(f *facts.Host) { f.Listening = []int{22, 6443, 10250} }, "in use: 10250"},
	{"ports", cp, func(f *facts.Host) { f.Listening = []int{22, 6443, 10250} }, "in use: 6443, 10250"},
	{"ports", etcd, func(f *facts.Host) { f.Listening = []int{2379, 10250} }, "in use: 2379"},
	{"ports", cp, func(f *facts.Host) { f.Listening, f.Cluster = []int{6443}, "demo" }, ""},
	{"cpu-mhz", worker, func(f *facts.Host) { f.CPUMHz = false }, "/proc/cpuinfo has no cpu MHz"},
	{"cpu-mhz", etcd, func(f *facts.Host) { f.CPUMHz = false }, ""},
	{"resolv-conf", worker, func(f *facts.Host) { f.Resolver = "" }, "none"},
	{"resolv-conf", etcd, func(f *facts.Host) { f.Resolver = "" }, ""},
	{"cpus", cp, func(f *facts.Host) { f.CPUs = 1 }, "1 CPU"},
	{"cpus", worker, func(f *facts.Host) { f.CPUs = 1 }, ""},
	{"facts", worker, func(f *facts.Host) { f.Problems = []string{"read a: no", "read b: no"} }, "read a: no; read b: no"},
}

func TestChecks(t *testing.T) {
	for _, tt := range tried {
		f := fit()
		tt.change(&f)
		var want []string
		if tt.want != "" {
			want = []string{tt.name + ": " + tt.want}
		}
		if found := judge(host("h", tt.role), f); !slices.Equal(found, want) {
			t.Errorf("%s on %s: found %q, want %q", tt.name, tt.role, found, want)
		}
	}
}

func TestBothAddressesAreWanted(t *testing.T) {
	h := host("h", worker)
	h.Second = netip.MustParseAddr("2001:db8::1")
	f := fit()
	f.Addresses = []string{"192.0.2.1", "2001:db8::1"}
	if found := judge(h, f); found != nil {
		t.Errorf("a host with both: %q", found)
	}
	f.Addresses = []string{"192.0.2.1"}
	if found := judge(h, f); !slices.Equal(found, []string{"address: 2001:db8::1 is none of 192.0.2.1"}) {
		t.Errorf("a host without the second: %q", found)
	}
	f.Addresses, f.Links = []string{"192.0.2.1", "2001:db8::1"}, map[string]string{"192.0.2.1": "eth0", "2001:db8::1": "eth1"}
	if found := judge(h, f); !slices.Equal(found, []string{"address: 192.0.2.1 is on eth0, 2001:db8::1 on eth1"}) {
		t.Errorf("a host with one on each interface: %q", found)
	}
	if h := (inventory.Host{Name: "h", Address: h.Address, Second: h.Second, Roles: []inventory.Role{etcd}}); judge(h, f) != nil {
		t.Errorf("a host without pods has no flannel: %q", judge(h, f))
	}
	f.Links = nil
	f.Addresses, f.Cluster, f.Mark = []string{"192.0.2.1", "2001:db8::1"}, "demo", Mark(cluster(host("h", worker)), host("h", worker))
	want := `unchangeable: it has "address: 192.0.2.1", the file "address: 192.0.2.1, 2001:db8::1"`
	if found := judge(h, f); !slices.Equal(found, []string{want}) {
		t.Errorf("a second family for a running cluster: %q", found)
	}
}

func TestRoutesThatForwardingTakesAway(t *testing.T) {
	f := fit()
	f.Addresses, f.Advertised = []string{"192.0.2.1", "2001:db8::1"}, []string{"eth0", "eth1"}
	both := host("h", worker)
	both.Second = netip.MustParseAddr("2001:db8::1")
	want := []string{"router-advertisements: accept_ra is not 2, with a default route from it, on eth0, eth1"}
	if found := judge(both, f); !slices.Equal(found, want) {
		t.Errorf("found %q", found)
	}
	both.Roles = []inventory.Role{etcd}
	for _, h := range []inventory.Host{both, host("h", worker)} {
		if found := judge(h, f); found != nil {
			t.Errorf("%v does not forward IPv6: %q", h, found)
		}
	}
}

// A new check comes with a host that fails it.
func TestEachCheckIsTried(t *testing.T) {
	failed := map[string]bool{"clock": true, "router-advertisements": true} // have tests of their own: they take other hosts
	for _, tt := range tried {
		failed[tt.name] = failed[tt.name] || tt.want != ""
	}
	seen := map[string]bool{}
	for _, c := range checks {
		if !failed[c.name] {
			t.Errorf("check %s fails on no host of the table", c.name)
		}
		if seen[c.name] || c.wanted == "" || c.remedy == "" || strings.ToLower(c.name) != c.name {
			t.Errorf("check %s: named twice, or without what is wanted or what to do", c.name)
		}
		seen[c.name] = true
	}
	if len(Names()) != len(checks) {
		t.Errorf("%d names of %d checks", len(Names()), len(checks))
	}
}

// The limits are said in the text as they are in the code.
func TestLimitsAreSaid(t *testing.T) {
	limits := map[string][]int{"memory": {minMemoryControlPlane, minMemoryWorker}, "disk": {minDiskOpt, minDiskVar}, "clock": {int(maxSkew / time.Second)}}
	for _, c := range checks {
		for _, limit := range limits[c.name] {
			if !strings.Contains(c.wanted, fmt.Sprint(limit)) {
				t.Errorf("%s: %q does not say %d", c.name, c.wanted, limit)
			}
		}
	}
}

func TestClock(t *testing.T) {
	h := []inventory.Host{host("a", worker), host("b", worker), host("c", worker), host("d", worker)}
	for _, tt := range []struct {
		offsets []time.Duration
		want    map[string]string
	}{
		{[]time.Duration{0, 0, 0, 0}, map[string]string{}},
		{[]time.Duration{0, 4 * time.Second, -time.Second, 0}, map[string]string{}},
		// The operator's own clock is wrong: all hosts agree.
		{[]time.Duration{time.Hour, time.Hour, time.Hour + time.Second, time.Hour}, map[string]string{}},
		{[]time.Duration{0, 0, time.Minute, 0}, map[string]string{"c": "1m0s from the other hosts"}},
		{[]time.Duration{0, -5001 * time.Millisecond, 0, 0}, map[string]string{"b": "-5.001s from the other hosts"}},
		{[]time.Duration{time.Hour, time.Hour - 6*time.Second, time.Hour, time.Hour}, map[string]string{"b": "-6s from the other hosts"}},
	} {
		all := map[string]facts.Host{}
		for i, o := range tt.offsets {
			f := fit()
			f.Offset = o
			all[h[i].Name] = f
		}
		found := map[string]string{}
		for _, f := range Check(cluster(h...), all, nil) {
			found[f.Host] = f.Measured
			if f.Check != "clock" {
				t.Errorf("%v: %+v", tt.offsets, f)
			}
		}
		if !reflect.DeepEqual(found, tt.want) {
			t.Errorf("%v: found %v, want %v", tt.offsets, found, tt.want)
		}
	}
}

func TestDemotion(t *testing.T) {
	f := fit()
	f.SwapMiB, f.CPUs, f.Systemd = 1, 1, false
	inv, all := cluster(host("h", cp)), map[string]facts.Host{"h": f}
	if n := Errors(Check(inv, all, nil)); n != 2 {
		t.Errorf("%d errors, want swap and systemd; one CPU only warns", n)
	}
	found := Check(inv, all, []string{"swap", "cpus"})
	if n := Errors(found); n != 1 || len(found) != 3 {
		t.Errorf("%d errors in %+v; want systemd alone", n, found)
	}
}

// Hosts that were not asked, and facts of hosts that are not in the inventory,
// are nobody's fault.
func TestStrangersAreLeftOut(t *testing.T) {
	bad := fit()
	bad.Systemd = false
	if found := Check(cluster(host("h", worker)), map[string]facts.Host{"stranger": bad}, nil); found != nil {
		t.Errorf("%+v", found)
	}
	if found := Check(cluster(host("h", worker)), nil, nil); found != nil {
		t.Errorf("%+v", found)
	}
}

func TestOrderIsThatOfHostsThenChecks(t *testing.T) {
	bad := fit()
	bad.Systemd, bad.SwapMiB = false, 1
	var found []string
	for _, f := range Check(cluster(host("a", worker), host("b", worker)), map[string]facts.Host{"b": bad, "a": bad}, nil) {
		found = append(found, f.Host+" "+f.Check)
	}
	if want := []string{"a systemd", "a swap", "b systemd", "b swap"}; !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
}

// The bound is a hundred times what it takes, for busy machines.
func TestThousandHosts(t *testing.T) {
	var hosts []inventory.Host
	all := map[string]facts.Host{}
	for i := range 1000 {
		h := host(fmt.Sprintf("w-%d", i), worker)
		hosts, all[h.Name] = append(hosts, h), fit()
	}
	start := time.Now()
	if found := Check(cluster(hosts...), all, nil); found != nil {
		t.Errorf("%d findings", len(found))
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func BenchmarkCheck(b *testing.B) {
	h, all := host("h", worker), map[string]facts.Host{"h": fit()}
	for b.Loop() {
		Check(cluster(h), all, nil)
	}
}

// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/inventory"
)

// Severity says whether a finding stops the install.
type Severity string

// Severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing about a host that is not as it should be.
type Finding struct {
	Host     string   `json:"host"`
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Measured string   `json:"measured"`
	Wanted   string   `json:"wanted"`
	Remedy   string   `json:"remedy"`
}

// subject is a host with all that is known of it.
type subject struct {
	cluster string
	mark    string // that the host should have
	host    inventory.Host
	facts   facts.Host
	// skew is how far the host's clock is from the median of all clocks.
	skew time.Duration
}

// check is one named question. judge returns what was measured, or "" if the
// host is right.
type check struct {
	name     string
	severity Severity
	judge    func(subject) string
	wanted   string
	remedy   string
}

// Check judges all hosts by all checks. demote names checks whose errors only
// warn. Findings come by host and then as the checks are listed. It is a pure
// function; hosts without facts are left out.
func Check(inv inventory.Inventory, all map[string]facts.Host, demote []string) []Finding {
	var findings []Finding
	median := medianOffset(all)
	for _, h := range inv.Hosts {
		f, ok := all[h.Name]
		if !ok {
			continue
		}
		s := subject{cluster: inv.Cluster, mark: Mark(inv, h), host: h, facts: f, skew: f.Offset - median}
		for _, c := range checks {
			measured := c.judge(s)
			if measured == "" {
				continue
			}
			severity := c.severity
			if slices.Contains(demote, c.name) {
				severity = Warning
			}
			findings = append(findings, Finding{h.Name, c.name, severity, measured, c.wanted, c.remedy})
		}
	}
	return findings
}

// Errors counts the findings that stop an install.
func Errors(findings []Finding) int {
	n := 0
	for _, f := range findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// Names lists the checks, for --ignore.
func Names() []string {
	var names []string
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Explanation says what one check wants and what to do when it is not so.
type Explanation struct {
	Name     string
	Severity Severity
	Wanted   string
	Remedy   string
}

// Explain lists all checks, in the order they are reported.
func Explain() []Explanation {
	var all []Explanation
	for _, c := range checks {
		all = append(all, Explanation{c.name, c.severity, c.wanted, c.remedy})
	}
	return all
}

// medianOffset is the middle of the hosts' clocks: one wrong clock, the
// operator's included, does not make all others wrong.
func medianOffset(all map[string]facts.Host) time.Duration {
	var offsets []time.Duration
	for _, f := range all {
		offsets = append(offsets, f.Offset)
	}
	if len(offsets) == 0 {
		return 0
	}
	slices.Sort(offsets)
	return offsets[len(offsets)/2]
}

// Room that an install takes and leaves for the first days, in MiB, and the
// memory that the parts use when idle with as much again.
const (
	minMemoryControlPlane = 1200
	minMemoryWorker       = 700
	minDiskOpt            = 1024
	minDiskVar            = 2048
)

// maxSkew is half of what etcd and certificate checks begin to suffer from.
const maxSkew = 5 * time.Second

// checks are all questions, in the order they are reported.
var checks = []check{
	{"systemd", Error, func(s subject) string { return unless(s.facts.Systemd, "systemd does not run") },
		"systemd as PID 1", "use a distribution with systemd"},
	{"arch", Error, func(s subject) string { return unless(s.facts.Arch == "amd64", s.facts.Arch) },
		"amd64", "the bundle holds programs for amd64 only"},
	{"cluster", Error, otherCluster,
		"no cluster, or this one", "run `muster reset` with the inventory of that cluster first"},
	{"unchangeable", Error, changed,
		"what the host was installed with", "undo the edit: this cannot be changed in a running cluster; a new cluster can have it"},
	{"foreign-kubernetes", Error, func(s subject) string { return strings.Join(s.facts.Foreign, ", ") },
		"no other Kubernetes or container runtime", "remove it; muster brings its own"},
	{"address", Error, missingAddress,
		"the inventory's addresses on one of the host's interfaces", "correct them in the inventory, or bring the interface up"},
	{"router-advertisements", Error, advertised,
		"IPv6 default routes that stay when the host forwards", "set net.ipv6.conf.INTERFACE.accept_ra to 2, or configure the route by hand"},
	{"cgroup-v2", Error, func(s subject) string { return unless(s.facts.CgroupV2, "cgroup v1") },
		"cgroup v2", "boot with systemd.unified_cgroup_hierarchy=1"},
	{"cgroup-controllers", Error, missingControllers,
		"the controllers cpu, memory and pids", "enable them in the kernel; memory may need cgroup_enable=memory on its command line"},
	{"kernel-features", Error, missingFeatures,
		"overlay, bridge-nf, seccomp, conntrack", "install a kernel that has them, such as the distribution's standard one"},
	{"ipvs", Error, func(s subject) string { return unless(!isNode(s) || s.facts.IPVS, "the kernel has no ip_vs") },
		"IPVS in the kernel", "install a kernel with CONFIG_IP_VS, such as the distribution's standard one"},
	{"programs", Error, func(s subject) string { return join("missing", s.facts.Missing) },
		strings.Join(facts.Programs, ", "), "install the packages nftables, iptables, passwd, mount, kmod"},
	{"swap", Error, func(s subject) string {
		return unless(s.facts.SwapMiB == 0, fmt.Sprintf("%d MiB of swap", s.facts.SwapMiB))
	},
		"no swap", "swapoff -a, and remove it from /etc/fstab"},
	{"memory", Error, littleMemory,
		"1200 MiB on control-plane hosts, 700 MiB on workers", "give the host more memory"},
	{"disk", Error, littleDisk,
		"1024 MiB free in /opt, 2048 MiB in /var/lib", "free some room"},
	{"ports", Error, takenPorts,
		"the ports of the cluster's programs free", "stop what listens there: ss -ltnp shows it"},
	{"cpu-mhz", Error, func(s subject) string { return unless(!isNode(s) || s.facts.CPUMHz, "/proc/cpuinfo has no cpu MHz") },
		"a clock rate in /proc/cpuinfo", "the kubelet refuses to start without it: bind-mount a copy of /proc/cpuinfo with a line `cpu MHz : 1000` over it at boot"},
	{"resolv-conf", Error, func(s subject) string { return unless(!isNode(s) || s.facts.Resolver != "", "none") },
		"/etc/resolv.conf", "create it; it may be empty"},
	{"clock", Error, func(s subject) string {
		return unless(s.skew.Abs() <= maxSkew, fmt.Sprintf("%s from the other hosts", s.skew.Round(time.Millisecond)))
	}, "within 5s of the other hosts", "run a time service such as chrony or systemd-timesyncd"},
	{"cpus", Warning, func(s subject) string {
		return unless(s.facts.CPUs > 1 || !s.host.Has(inventory.ControlPlane), "1 CPU")
	}, "2 CPUs on control-plane hosts", "works, slowly"},
	{"facts", Warning, func(s subject) string { return strings.Join(s.facts.Problems, "; ") },
		"everything readable", "look at what could not be read"},
}

func unless(right bool, measured string) string {
	if right {
		return ""
	}
	return measured
}

func join(what string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return what + " " + strings.Join(names, ", ")
}

func isNode(s subject) bool {
	return s.host.Has(inventory.Worker) || s.host.Has(inventory.ControlPlane)
}

func ours(s subject) bool { return s.facts.Cluster == s.cluster }

func otherCluster(s subject) string {
	return unless(s.facts.Cluster == "" || ours(s), "belongs to cluster "+s.facts.Cluster)
}

func missingAddress(s subject) string {
	var wrong []string
	for _, a := range s.host.Addresses() {
		if !slices.Contains(s.facts.Addresses, a.String()) {
			wrong = append(wrong, fmt.Sprintf("%s is none of %s", a, strings.Join(s.facts.Addresses, ", ")))
		}
	}
	if len(wrong) > 0 || !isNode(s) || !s.host.Second.IsValid() {
		return strings.Join(wrong, "; ")
	}
	// flanneld starts only with both on one interface (flannel's
	// pkg/ipmatch/match.go, LookupExtIface).
	first, second := s.facts.Links[s.host.Address.String()], s.facts.Links[s.host.Second.String()]
	return unless(first == second, fmt.Sprintf("%s is on %s, %s on %s", s.host.Address, first, s.host.Second, second))
}

// advertised finds default routes that a node with IPv6 pods would lose. Once
// it forwards, they are gone and nothing is left to find.
func advertised(s subject) string {
	hasIPv6 := slices.ContainsFunc(s.host.Addresses(), netip.Addr.Is6)
	if !isNode(s) || !hasIPv6 || len(s.facts.Advertised) == 0 {
		return ""
	}
	return "accept_ra is not 2, with a default route from it, on " + strings.Join(s.facts.Advertised, ", ")
}

func missingControllers(s subject) string {
	var missing []string
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(s.facts.Cgroups, c) {
			missing = append(missing, c)
		}
	}
	return join("missing", missing)
}

func missingFeatures(s subject) string {
	var missing []string
	for _, f := range []string{"overlay", "bridge-nf", "seccomp", "conntrack"} {
		if isNode(s) && !s.facts.Features[f] {
			missing = append(missing, f)
		}
	}
	return join("missing", missing)
}

func littleMemory(s subject) string {
	want := 0
	switch {
	case s.host.Has(inventory.ControlPlane):
		want = minMemoryControlPlane
	case s.host.Has(inventory.Worker):
		want = minMemoryWorker
	}
	return unless(s.facts.MemoryMiB >= want, fmt.Sprintf("%d MiB", s.facts.MemoryMiB))
}

func littleDisk(s subject) string {
	if ours(s) {
		return "" // what it holds is what fills it
	}
	var small []string
	for _, d := range []struct {
		path string
		min  int
	}{{"/opt", minDiskOpt}, {"/var/lib", minDiskVar}} {
		if free := s.facts.Disks[d.path].FreeMiB; free < d.min {
			small = append(small, fmt.Sprintf("%d MiB free in %s", free, d.path))
		}
	}
	return strings.Join(small, ", ")
}

// portsOf are the TCP ports that a role's programs listen on.
var portsOf = map[inventory.Role][]int{
	inventory.Etcd:         {2379, 2380, 2381},
	inventory.ControlPlane: {6443, 10257, 10259, 10250, 10248, 10249, 10256},
	inventory.Worker:       {10250, 10248, 10249, 10256},
}

func takenPorts(s subject) string {
	if s.facts.Cluster != "" {
		return "" // a cluster's programs listen there; the check cluster says whose
	}
	var taken []string
	for _, role := range s.host.Roles {
		for _, p := range portsOf[role] {
			if text := fmt.Sprint(p); slices.Contains(s.facts.Listening, p) && !slices.Contains(taken, text) {
				taken = append(taken, text)
			}
		}
	}
	return join("in use:", taken)
}

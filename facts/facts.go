// SPDX-License-Identifier: Apache-2.0

// Package facts reads what is true of a host before anything is planned, as
// plain values. It only reads.
package facts

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-project/muster/plan/step"
)

// Host is what was read from one host. A fact that could not be read has its
// zero value and a line in Problems.
type Host struct {
	Hostname  string
	OS        string // PRETTY_NAME of os-release
	Kernel    string // release, as uname -r
	Arch      string // GOARCH
	CPUs      int
	MemoryMiB int
	SwapMiB   int
	Systemd   bool
	CgroupV2  bool
	Cgroups   []string // controllers of the root group, sorted
	Time      time.Time
	// Offset is how far the host's clock is ahead of the operator's, half the
	// round trip taken off; the operator's side fills it in.
	Offset    time.Duration
	Disks     map[string]Disk   // by path
	Addresses []string          // of all interfaces, sorted
	Links     map[string]string // interface of each address
	// Advertised are interfaces whose IPv6 default route comes from router
	// advertisements and goes when the host begins to forward: the kernel keeps
	// it only where accept_ra is 2 (Documentation/networking/ip-sysctl.rst).
	Advertised []string
	Missing    []string        // programs of Programs that are not there
	Listening  []int           // TCP ports somebody listens on, sorted
	IPVS       bool            // the kernel has it or a module for it
	Features   map[string]bool // kernel features by name: overlay, nf_tables, vxlan, bridge-nf
	CPUMHz     bool            // /proc/cpuinfo says a clock rate, which the kubelet insists on
	// Resolver is the resolv.conf for pods with the host's DNS: systemd-resolved
	// keeps one without its loopback address. Empty if there is none.
	Resolver string
	Cluster  string   // cluster whose muster files lie here
	Mark     string   // what ClusterFile holds
	Foreign  []string // units of another Kubernetes that are installed
	Problems []string
}

// Disk is the room on the file system of a path, in MiB.
type Disk struct{ TotalMiB, FreeMiB int }

// Programs are what the parts of a cluster call by name on a host.
var Programs = []string{"mount", "umount", "nft", "iptables", "useradd", "userdel", "journalctl", "modprobe"}

// ClusterFile holds the mark of the cluster a host belongs to: lines of
// "what: value", the first of them MarkCluster.
const (
	ClusterFile = "/etc/muster/cluster"
	MarkCluster = "cluster"
)

// Gather asks everything; it never fails as a whole.
func Gather(ctx context.Context, h *step.Host) Host {
	f := Host{Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Time: h.Now(), Disks: map[string]Disk{}, Features: map[string]bool{}}
	g := gatherer{host: h, facts: &f}
	g.identity()
	g.memory()
	g.disks("/var/lib", "/opt", "/etc")
	g.cgroups()
	g.network()
	g.programs()
	g.kernel()
	g.cluster(ctx)
	return f
}

type gatherer struct {
	host  *step.Host
	facts *Host
}

func (g gatherer) read(path string) string {
	data, err := os.ReadFile(g.host.Path(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.facts.Problems = append(g.facts.Problems, err.Error())
	}
	return string(data)
}

func (g gatherer) exists(path string) bool {
	_, err := os.Stat(g.host.Path(path))
	return err == nil
}

func (g gatherer) identity() {
	g.facts.Hostname = strings.TrimSpace(g.read("/proc/sys/kernel/hostname"))
	g.facts.Kernel = strings.TrimSpace(g.read("/proc/sys/kernel/osrelease"))
	for line := range strings.Lines(g.read("/etc/os-release")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			g.facts.OS = strings.Trim(name, `"`)
		}
	}
	g.facts.Systemd = g.exists("/run/systemd/system")
	g.facts.CPUMHz = strings.Contains(g.read("/proc/cpuinfo"), "cpu MHz") || runtime.GOARCH != "amd64"
	for _, p := range []string{"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"} {
		if g.facts.Resolver == "" && g.exists(p) {
			g.facts.Resolver = p
		}
	}
}

func (g gatherer) memory() {
	for line := range strings.Lines(g.read("/proc/meminfo")) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			g.facts.MemoryMiB = kib >> 10
		case "SwapTotal:":
			g.facts.SwapMiB = kib >> 10
		}
	}
}

func (g gatherer) disks(paths ...string) {
	for _, p := range paths {
		var st syscall.Statfs_t
		if err := syscall.Statfs(g.host.Path(p), &st); err != nil {
			g.facts.Problems = append(g.facts.Problems, p+": "+err.Error())
			continue
		}
		block := uint64(st.Bsize)
		g.facts.Disks[p] = Disk{TotalMiB: int(st.Blocks * block >> 20), FreeMiB: int(st.Bavail * block >> 20)}
	}
}

func (g gatherer) cgroups() {
	controllers := g.read("/sys/fs/cgroup/cgroup.controllers")
	g.facts.CgroupV2 = controllers != ""
	g.facts.Cgroups = slices.Sorted(slices.Values(strings.Fields(controllers)))
}

func (g gatherer) programs() {
	for _, p := range Programs {
		if !g.onPath(p) {
			g.facts.Missing = append(g.facts.Missing, p)
		}
	}
}

func (g gatherer) onPath(program string) bool {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if _, err := exec.LookPath(g.host.Path(dir + "/" + program)); err == nil {
			return true
		}
	}
	return false
}

func (g gatherer) kernel() {
	filesystems := g.read("/proc/filesystems")
	modules := "/lib/modules/" + g.facts.Kernel
	index := g.read(modules+"/modules.dep") + g.read(modules+"/modules.builtin")
	has := func(module string) bool { return strings.Contains(index, "/"+module+".ko") }
	g.facts.IPVS = g.exists("/proc/net/ip_vs") || has("ip_vs")
	g.facts.Features["overlay"] = strings.Contains(filesystems, "overlay") || has("overlay")
	g.facts.Features["bridge-nf"] = g.exists("/proc/sys/net/bridge/bridge-nf-call-iptables") || has("br_netfilter")
	g.facts.Features["seccomp"] = g.exists("/proc/sys/kernel/seccomp/actions_avail")
	g.facts.Features["conntrack"] = g.exists("/proc/sys/net/netfilter/nf_conntrack_max") || has("nf_conntrack")
}

// foreignUnits belong to other installers or to packages of a distribution.
var foreignUnits = []string{"k3s", "k3s-agent", "rke2-server", "rke2-agent", "k0scontroller", "k0sworker", "kubelet", "docker", "etcd", "containerd"}

func (g gatherer) cluster(ctx context.Context) {
	g.facts.Mark = g.read(ClusterFile)
	for line := range strings.Lines(g.facts.Mark) {
		if name, ok := strings.CutPrefix(line, MarkCluster+": "); ok {
			g.facts.Cluster = strings.TrimSpace(name)
		}
	}
	if g.facts.Cluster != "" {
		return
	}
	for _, name := range foreignUnits {
		state, err := g.host.Units.State(ctx, name+".service")
		if err != nil {
			g.facts.Problems = append(g.facts.Problems, err.Error())
			return
		}
		if state.Enabled || state.Active {
			g.facts.Foreign = append(g.facts.Foreign, name+".service")
		}
	}
}

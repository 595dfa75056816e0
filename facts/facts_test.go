// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/plan/step/steptest"
)

// typical is a Debian machine that nothing was installed on.
func typical(t *testing.T) *steptest.World {
	t.Helper()
	w := steptest.New(t)
	for path, text := range map[string]string{
		"/proc/sys/kernel/hostname":                  "w-1\n",
		"/proc/sys/kernel/osrelease":                 "6.12.43-amd64\n",
		"/proc/sys/kernel/seccomp/actions_avail":     "kill_process allow\n",
		"/etc/os-release":                            "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n",
		"/proc/cpuinfo":                              "processor\t: 0\ncpu MHz\t\t: 2500.000\n",
		"/proc/meminfo":                              "MemTotal:        4030000 kB\nMemFree:  1 kB\nSwapTotal:       1048576 kB\nbroken\nHugePages_Total: x\n",
		"/proc/filesystems":                          "nodev\tproc\n\text4\n",
		"/sys/fs/cgroup/cgroup.controllers":          "cpu memory io pids\n",
		"/run/systemd/system/x":                      "",
		"/etc/resolv.conf":                           "nameserver 127.0.0.53\n",
		"/run/systemd/resolve/resolv.conf":           "nameserver 10.0.0.1\n",
		"/proc/net/tcp":                              tcpTable("0100007F:0277 00000000:0000 0A", "00000000:0016 00000000:0000 0A", "0B00000A:0016 0100000A:C35A 01"),
		"/proc/net/tcp6":                             tcpTable("00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A"),
		"/lib/modules/6.12.43-amd64/modules.dep":     "kernel/fs/overlayfs/overlay.ko.xz:\nkernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz\n",
		"/lib/modules/6.12.43-amd64/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n",
		"/etc/systemd/system/multi-user.target.wants/docker.service": "",
		"/opt/x": "", "/var/lib/x": "",
	} {
		w.Write(path, 0o644, text)
	}
	for _, program := range []string{"/usr/bin/mount", "/bin/umount", "/usr/sbin/nft", "/usr/local/bin/journalctl", "/sbin/modprobe"} {
		w.Write(program, 0o755, "ELF")
	}
	w.Write("/usr/sbin/useradd", 0o644, "not a program")
	return w
}

func tcpTable(rows ...string) string {
	text := "  sl  local_address rem_address   st tx_queue rx_queue\n"
	for _, r := range rows {
		text += "   0: " + r + " 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
	}
	return text
}

// routes is an ipv6_route table of default routes, each "interface flags".
func routes(rows ...string) string {
	none, text := strings.Repeat("0", 32), ""
	for _, r := range rows {
		link, flags, _ := strings.Cut(r, " ")
		text += strings.Join([]string{none, "00", none, "00", "fe80" + none[:28], "00000400", "00000001", "00000000", flags, link}, " ") + "\n"
	}
	return text
}

func TestGather(t *testing.T) {
	w := typical(t)
	before := w.Tree()
	got := facts.Gather(t.Context(), w.Host)
	if after := w.Tree(); after != before {
		t.Errorf("asking changed the host from\n%s\nto\n%s", before, after)
	}
	// What the kernel below the test says is not in the golden file.
	if got.CPUs != runtime.NumCPU() || got.Arch != runtime.GOARCH || !got.Time.Equal(w.Clock) {
		t.Errorf("got %d CPUs, %s, %s", got.CPUs, got.Arch, got.Time)
	}
	for _, path := range []string{"/var/lib", "/opt", "/etc"} {
		if d := got.Disks[path]; d.TotalMiB <= 0 || d.FreeMiB > d.TotalMiB {
			t.Errorf("%s: %+v", path, d)
		}
	}
	if len(got.Addresses) == 0 || got.Links[got.Addresses[0]] == "" {
		t.Errorf("addresses %v on %v", got.Addresses, got.Links)
	}
	got.CPUs, got.Arch, got.Time, got.Disks, got.Addresses, got.Links = 0, "", time.Time{}, nil, nil, nil
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "typical.golden", append(text, '\n'))
}

func TestGatherEmptyHost(t *testing.T) {
	w := steptest.New(t)
	got := facts.Gather(t.Context(), w.Host)
	if got.IPVS || got.CgroupV2 || got.Systemd || got.Resolver != "" || len(got.Listening) > 0 || len(got.Foreign) > 0 {
		t.Errorf("got %+v", got)
	}
	if !reflect.DeepEqual(got.Missing, facts.Programs) {
		t.Errorf("missing %v", got.Missing)
	}
	// No /var/lib, /opt and /etc to measure.
	if len(got.Problems) != 3 {
		t.Errorf("problems %q", got.Problems)
	}
}

// A fact that cannot be read leaves a line, and the others are read.
func TestGatherProblems(t *testing.T) {
	w := typical(t)
	w.Unreadable("/proc/net")
	w.Units.Fail = errors.New("talk to systemd: no answer")
	got := facts.Gather(t.Context(), w.Host)
	text := strings.Join(got.Problems, "\n")
	if len(got.Problems) != 4 || !strings.Contains(text, "/proc/net/tcp:") || !strings.Contains(text, "/proc/net/tcp6:") || !strings.Contains(text, "talk to systemd") {
		t.Errorf("problems:\n%s", text)
	}
	if got.Hostname != "w-1" || got.MemoryMiB != 3935 {
		t.Errorf("got %+v", got)
	}
}

// On a host of ours the units are ours.
func TestGatherOwnCluster(t *testing.T) {
	w := typical(t)
	w.Write(facts.ClusterFile, 0o644, "cluster: demo\nhost: w-1\n")
	if got := facts.Gather(t.Context(), w.Host); got.Cluster != "demo" || got.Foreign != nil {
		t.Errorf("got %q, %v", got.Cluster, got.Foreign)
	}
}

func TestGatherKernels(t *testing.T) {
	cases := map[string]struct {
		change func(w *steptest.World)
		check  func(f facts.Host) bool
	}{
		"IPVS without modules": {
			func(w *steptest.World) { w.Remove("/lib"); w.Write("/proc/net/ip_vs", 0o444, "") },
			func(f facts.Host) bool { return f.IPVS && !f.Features["overlay"] },
		},
		"no IPVS": {func(w *steptest.World) { w.Remove("/lib") }, func(f facts.Host) bool { return !f.IPVS && !f.Features["bridge-nf"] }},
		"a module of a longer name": {
			func(w *steptest.World) {
				w.Write("/lib/modules/6.12.43-amd64/modules.dep", 0o644, "kernel/net/netfilter/ipvs/ip_vs_rr.ko: kernel/x/myoverlay.ko\n")
			},
			func(f facts.Host) bool { return !f.IPVS && !f.Features["overlay"] },
		},
		"built in": {
			func(w *steptest.World) {
				w.Remove("/lib")
				w.Write("/proc/filesystems", 0o444, "nodev\toverlay\n")
				w.Write("/proc/sys/net/bridge/bridge-nf-call-iptables", 0o644, "1")
				w.Write("/proc/sys/net/netfilter/nf_conntrack_max", 0o644, "65536")
			},
			func(f facts.Host) bool {
				return f.Features["overlay"] && f.Features["bridge-nf"] && f.Features["conntrack"]
			},
		},
		"cgroup v1": {
			func(w *steptest.World) { w.Remove("/sys") },
			func(f facts.Host) bool { return !f.CgroupV2 && len(f.Cgroups) == 0 },
		},
		"no systemd-resolved": {
			func(w *steptest.World) { w.Remove("/run/systemd/resolve") },
			func(f facts.Host) bool { return f.Resolver == "/etc/resolv.conf" },
		},
		"default routes from advertisements": {
			func(w *steptest.World) {
				w.Write("/proc/net/ipv6_route", 0o444, routes("eth0 00450003", "eth1 00450003", "eth2 00450003", "eth2 00450003", "eth3 00000003"))
				w.Write("/proc/sys/net/ipv6/conf/eth0/accept_ra", 0o644, "1\n")
				w.Write("/proc/sys/net/ipv6/conf/eth1/accept_ra", 0o644, "2\n")
			},
			func(f facts.Host) bool { return reflect.DeepEqual(f.Advertised, []string{"eth0", "eth2"}) },
		},
		"no clock rate": {
			func(w *steptest.World) { w.Write("/proc/cpuinfo", 0o444, "processor\t: 0\n") },
			func(f facts.Host) bool { return f.CPUMHz == (runtime.GOARCH != "amd64") },
		},
	}
	for name, c := range cases {
		w := typical(t)
		c.change(w)
		if got := facts.Gather(t.Context(), w.Host); !c.check(got) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

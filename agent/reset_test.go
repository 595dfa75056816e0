// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
)

// install is a small cluster's worth of steps on a host that had some of it.
func install(h *host) step.List {
	blob := h.Operator.AddBlob("ELF")
	return step.List{
		step.User{Name: "etcd"},
		step.Directory{Path: "/var/lib/kubelet", Mode: 0o700, Whole: true},
		step.Install{Path: "/opt/muster/bin/muster-proxier", Mode: 0o755, Blob: blob},
		step.File{Path: "/etc/app.conf", Mode: 0o644, Data: "muster's\n"},
		step.File{Path: "/etc/systemd/system/app.service", Mode: 0o644, Data: "[Service]\nExecStart=/muster\n"},
		step.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"},
		step.Link{Path: "/usr/local/bin/app", Target: "/opt/muster/bin/app"},
		step.Unit{Name: "app.service", Inputs: []string{"/etc/app.conf"}, Leaves: []string{"/var/lib/app"}},
		step.Unit{Name: "kubepods.slice"},
	}
}

// lived is a host that was installed and has run pods since. before is its
// tree from before the install.
func lived(t *testing.T) (h *host, before string) {
	t.Helper()
	h = newHost(t)
	h.Exec.Programs["/opt/muster/bin/muster-proxier"] = func(context.Context, io.Reader, []string) (string, error) { return "", nil }
	h.Write("/proc/sys/net/ipv4/ip_forward", 0o644, "0")
	h.Write("/etc/app.conf", 0o640, "before muster\n")
	h.Write("/etc/systemd/system/app.service", 0o644, "[Service]\nExecStart=/before\n")
	h.Write("/etc/systemd/system/kubepods.slice", 0o644, "[Slice]\n")
	if err := h.Units.Restart(t.Context(), "app.service"); err != nil {
		t.Fatal(err)
	}
	before = h.Tree("/run")
	h.mustApply(install(h)...)
	h.Write("/var/lib/kubelet/pods/1/volumes/x", 0o600, "data")
	h.Write("/var/lib/app/db", 0o600, "data")
	h.Write("/run/netns/cni-0123", 0o444, "")
	h.Write("/run/flannel/subnet.env", 0o644, "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n")
	h.kernel.links = append(h.kernel.links, "cni0", "flannel.1")
	h.kernel.routes = append(h.kernel.routes, netip.MustParsePrefix("10.244.2.0/24"))
	h.kernel.mount("/var/lib/kubelet/pods/1/volumes/a b")
	h.kernel.mount("/run/netns/cni-0123")
	h.tables = append(h.tables, "ip flannel-ipv4", "ip cni_hostport")
	return h, before
}

// gone fails the test if the host is not as before.
func (h *host) gone(before string) {
	h.T.Helper()
	if after := h.Tree("/run"); after != before {
		h.T.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if !reflect.DeepEqual(h.kernel.links, []string{"lo", "eth0"}) || len(h.kernel.routes)+len(h.tables) > 0 {
		h.T.Errorf("left %v %v %v", h.kernel.links, h.kernel.routes, h.tables)
	}
	if got := h.Units.StartedOn["app.service"]; got != "[Service]\nExecStart=/before\n" || !reflect.DeepEqual(h.Units.Active(), []string{"app.service"}) {
		h.T.Errorf("app.service runs on %q; active: %v", got, h.Units.Active())
	}
	for _, p := range []string{"/run/muster", "/run/netns/cni-0123", "/opt/muster", "/var/lib/muster"} {
		if h.Exists(p) {
			h.T.Errorf("%s is left", p)
		}
	}
	if h.Users.Has("etcd") {
		h.T.Error("the user is left")
	}
}

func TestReset(t *testing.T) {
	h, before := lived(t)
	h.open()
	h.reset()
	h.gone(before)
	if !strings.Contains(strings.Join(h.Exec.Calls(), "\n"), "/opt/muster/bin/muster-proxier --cleanup\n") {
		t.Error("the proxier was not asked to clean up")
	}
	h.reset() // of a host without muster
	h.gone(before)
}

// The session breaks after each stage: another reset ends it.
func TestResetCutAfterEachStage(t *testing.T) {
	gone := errors.New("the connection is gone")
	for stage := 0; ; stage++ {
		h, before := lived(t)
		left := stage
		err := h.agent.Reset(t.Context(), func(any) error {
			if left == 0 {
				return gone
			}
			left--
			return nil
		})
		if err == nil {
			if stage < 9 {
				t.Errorf("a reset has only %d stages", stage)
			}
			return
		}
		if !errors.Is(err, gone) {
			t.Fatal(err)
		}
		h.open()
		h.reset()
		h.gone(before)
	}
}

// The replay of the journal is cut at each entry. A reset ends it; so does an
// install followed by a reset.
func TestResetCutAtEachEntry(t *testing.T) {
	h, _ := lived(t)
	entries, err := agent.ReadJournal(h.Host)
	if err != nil {
		t.Fatal(err)
	}
	for first := range entries {
		for _, again := range []bool{false, true} {
			h, before := lived(t)
			if err := h.agent.ReplayFrom(t.Context(), first); err != nil {
				t.Fatalf("from entry %d: %v", first, err)
			}
			h.open()
			if again {
				h.mustApply(install(h)...)
			}
			h.reset()
			h.gone(before)
		}
	}
}

// Whatever part of the system is in trouble, the reset names its stage, goes
// no further, and can be repeated.
func TestResetInTrouble(t *testing.T) {
	trouble := errors.New("device or resource busy")
	cases := map[string]struct{ begin, end func(h *host) }{
		"stop services":                  {func(h *host) { h.Units.Fail = trouble }, func(h *host) { h.Units.Fail = nil }},
		"take down the service proxy":    {func(h *host) { h.Exec.Fail = trouble }, func(h *host) { h.Exec.Fail = nil }},
		"unmount volumes and containers": {func(h *host) { h.kernel.fail = trouble }, func(h *host) { h.kernel.fail = nil }},
		"end pods": {
			func(h *host) { h.Write("/sys/fs/cgroup/kubepods.slice/cgroup.kill/x", 0o200, "") },
			func(h *host) { h.Remove("/sys") },
		},
	}
	for stage, c := range cases {
		h, before := lived(t)
		c.begin(h)
		err := h.agent.Reset(t.Context(), h.emit)
		last := h.events[len(h.events)-1]
		if err == nil || last.Text != stage || last.State != protocol.Failed || last.Cause == "" {
			t.Errorf("%s: got %v, %+v", stage, err, last)
		}
		c.end(h)
		h.open()
		h.reset()
		h.gone(before)
	}
}

// What reset cannot take away it shows.
func TestResetShowsWhatIsLeft(t *testing.T) {
	h, _ := lived(t)
	h.Write("/etc/cron.d/stranger", 0o644, "* * * * *")
	h.events = nil
	if err := h.agent.Reset(t.Context(), h.emit); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range h.events {
		left = append(left, e.Evidence...)
	}
	if len(left) != 2 || !strings.HasPrefix(left[0], "+ file /etc/cron.d drwx") || !strings.HasPrefix(left[1], "+ file /etc/cron.d/stranger -rw-r--r--") {
		t.Errorf("got %q", left)
	}
}

// The session that reset the host may install again, and reset that.
func TestResetThenInstall(t *testing.T) {
	h, before := lived(t)
	h.reset()
	h.gone(before)
	h.mustApply(install(h)...)
	h.reset()
	h.gone(before)
}

// muster-node was killed while it wrote: the part beside the file goes too.
func TestResetAfterKill(t *testing.T) {
	h, before := lived(t)
	for _, path := range []string{"/etc/app.conf", "/usr/local/bin/app", "/var/lib/kubelet"} {
		h.Write(step.Temporary(path), 0o600, "hal")
	}
	h.open()
	h.reset()
	h.gone(before)
}

// Modes beyond the nine bits come back too, and so does a pipe.
func TestResetRestoresOddities(t *testing.T) {
	h := newHost(t)
	h.Write("/etc/tool", 0o755, "#!")
	h.Chmod("/etc/tool", 0o755|os.ModeSetuid)
	h.Write("/etc/shared/x", 0o644, "")
	h.Chmod("/etc/shared", 0o777|os.ModeSticky)
	if err := syscall.Mkfifo(h.Host.Path("/etc/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := h.Tree("/run")
	h.mustApply(
		step.File{Path: "/etc/tool", Mode: 0o644, Data: "x"}, step.Directory{Path: "/etc/shared", Mode: 0o700},
		step.File{Path: "/etc/pipe", Mode: 0o644, Data: "x"},
	)
	h.reset()
	if after := h.Tree("/run"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

// On hosts where /var is a file system of its own, files cannot be linked.
func TestResetAcrossFileSystems(t *testing.T) {
	h := newHost(t)
	elsewhere, err := os.MkdirTemp("/dev/shm", "muster-test-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	if err := os.Symlink(elsewhere, h.Host.Path("/var/lib/muster")); err != nil {
		t.Fatal(err)
	}
	h.Write("/etc/app.conf", 0o640, "before muster\n")
	before := h.Tree("/run", "/var/lib/muster")
	h.mustApply(step.File{Path: "/etc/app.conf", Mode: 0o644, Data: "muster's"})
	h.reset()
	if after := h.Tree("/run", "/var/lib/muster"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

func TestPodNetworks(t *testing.T) {
	env := "FLANNEL_NETWORK=10.244.0.0/16,10.245.0.0/16\nFLANNEL_SUBNET=10.1.0.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\nnonsense\nFLANNEL_NETWORK=x\n"
	want := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.245.0.0/16"), netip.MustParsePrefix("fd00::/48")}
	if got := agent.PodNetworks(env); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

// Any steps over any tree: after a reset the tree is the one before.
func TestResetRandom(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		h := newHost(t)
		randomTree(h, random)
		before := h.Tree("/run")
		var done []string
		for range 1 + random.IntN(25) {
			s := randomStep(random)
			if _, err := h.apply(s); err == nil {
				done = append(done, s.String())
			}
			if random.IntN(5) == 0 {
				h.open() // the link dropped
			}
		}
		h.reset()
		if after := h.Tree("/run"); after != before {
			t.Fatalf("seed %d: after %s: got\n%s\nwant\n%s", seed, strings.Join(done, ", "), after, before)
		}
	}
}

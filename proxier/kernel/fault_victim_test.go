// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// A victim is this program once more, as a proxier that brings the kernel to
// one generation of Services and is killed after some kernel operation.
const asVictim = "MUSTER_TEST_VICTIM"

// operations are what a victim did to the kernel.
type operations struct {
	Phases []int // number of operations at the end of each phase
	Total  int
}

// victimMain is the victim's program: it ends when the kernel holds the
// generation and nothing drains, or is killed after so many operations.
func victimMain(order string) int {
	var generation, last int
	if _, err := fmt.Sscanf(order, "%d %d", &generation, &last); err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		return 2
	}
	dir, err := os.MkdirTemp("", "victim-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	k, err := Open(Options{StateDir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer k.Close()
	m := &mortal{Kernel: k, last: last}
	if err := m.converge(generation); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(m.done.Total, strings.Trim(fmt.Sprint(m.done.Phases), "[]"))
	return 0
}

// converge runs a proxier until the kernel is as wanted.
func (m *mortal) converge(generation int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := newProxier(m, services(generation))
	p.Timing.DrainTick = 10 * time.Millisecond
	p.Drain.Cap = time.Second // IPVS remembers a reset connection for ten, and none here lives that long
	var failed error
	p.Report = func(r proxier.Report) {
		if ctx.Err() != nil {
			return
		}
		if failed = r.Err; r.Err != nil || r.Draining == 0 {
			cancel()
		}
	}
	p.Run(ctx)
	return failed
}

// newProxier knows its node and these Services.
func newProxier(k proxier.Kernel, list []served) *proxier.Proxier {
	p := &proxier.Proxier{Kernel: k, Inbox: proxier.NewInbox(), Model: proxier.NewModel(faultConfig())}
	p.Inbox.Node(proxier.Node{Addrs: []netip.Addr{nodeIP, nodeIP6}})
	p.Inbox.ServiceCIDR("kubernetes", serviceCIDRs())
	for _, s := range list {
		p.Inbox.Service(s.Service)
		p.Inbox.Slice(s.slice)
	}
	p.Inbox.Synced()
	return p
}

// mortal applies plans one operation at a time and dies after the last one.
// That is finer than the kernel sees otherwise: what is sent in one piece is
// never half received.
type mortal struct {
	*Kernel
	last int // 0 is never
	done operations
}

func (m *mortal) operation(err error) error {
	if m.done.Total++; m.done.Total == m.last {
		unix.Kill(unix.Getpid(), unix.SIGKILL)
		select {}
	}
	return err
}

func (m *mortal) Prepare(ctx context.Context) error {
	err := m.operation(m.Kernel.Prepare(ctx))
	m.done.Phases = append(m.done.Phases, m.done.Total)
	return err
}

func (m *mortal) Apply(ctx context.Context, whole proxier.Plan) error {
	size := 0
	for _, phase := range pieces(whole) {
		for _, p := range phase {
			if p.Len() == 0 {
				continue
			}
			size += p.Len()
			if err := m.operation(m.Kernel.Apply(ctx, p)); err != nil {
				return err
			}
		}
		m.done.Phases = append(m.done.Phases, m.done.Total)
	}
	if size != whole.Len() {
		return fmt.Errorf("a plan of %d changes was cut into pieces of %d: it has a part that this test does not know", whole.Len(), size)
	}
	return nil
}

// pieces cuts a plan into its phases, and those into what the kernel does in
// one go.
func pieces(p proxier.Plan) [][]proxier.Plan {
	var routes, servers []proxier.Plan
	for _, c := range p.Routes {
		routes = append(routes, proxier.Plan{Routes: []proxier.RouteChange{c}})
	}
	for _, c := range p.Servers {
		servers = append(servers, proxier.Plan{Servers: []proxier.ServerChange{c}})
	}
	return [][]proxier.Plan{{{Before: p.Before}}, routes, servers, {{After: p.After}}, {{Forget: p.Forget}}}
}

// runVictim lets a victim work towards a generation. killed is false if it was
// done before its last operation.
func runVictim(t *testing.T, generation, last int) (did operations, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", asVictim, generation, last))
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() && status.Signal() == syscall.SIGKILL && last > 0 {
		return did, true
	}
	if err != nil {
		t.Fatalf("generation %d, last operation %d: %v\n%s", generation, last, err, errOut.String())
	}
	var n int
	for i, text := range strings.Fields(string(out)) {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatalf("a victim said %q: %v", out, err)
		}
		if i == 0 {
			did.Total = n
		} else {
			did.Phases = append(did.Phases, n)
		}
	}
	return did, false
}

// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

// kernel is a kernel in memory. Mounts are the lines of the host's mountinfo.
type kernel struct {
	fail   error
	world  *steptest.World
	links  []string
	routes []netip.Prefix
}

func (k *kernel) Network(context.Context) ([]string, error) {
	var lines []string
	for _, l := range k.links {
		lines = append(lines, "link "+l)
	}
	for _, r := range k.routes {
		lines = append(lines, "route "+r.String())
	}
	return lines, k.fail
}

func (k *kernel) DeleteLink(name string) error {
	k.links = slices.DeleteFunc(k.links, func(l string) bool { return l == name })
	return k.fail
}

func (k *kernel) DeleteRoutes(networks []netip.Prefix) error {
	k.routes = slices.DeleteFunc(k.routes, func(r netip.Prefix) bool {
		return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(r.Addr()) })
	})
	return k.fail
}

const mountinfo = "/proc/self/mountinfo"

func (k *kernel) mount(path string) {
	escaped := strings.ReplaceAll(path, " ", `\040`)
	k.world.Write(mountinfo, 0o444, k.world.Read(mountinfo)+"99 21 0:44 / "+escaped+" rw shared:7 - tmpfs tmpfs rw\n")
}

func (k *kernel) Unmount(path string) error {
	escaped := strings.ReplaceAll(path, " ", `\040`)
	var left []string
	for line := range strings.Lines(k.world.Read(mountinfo)) {
		if strings.Fields(line)[4] != escaped {
			left = append(left, line)
		}
	}
	k.world.Write(mountinfo, 0o444, strings.Join(left, ""))
	return k.fail
}

// host is an agent on a host in memory.
type host struct {
	*steptest.World
	agent  *agent.Agent
	kernel *kernel
	tables []string // of nftables
	events []protocol.Event
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{World: steptest.New(t)}
	h.kernel = &kernel{world: h.World, links: []string{"lo", "eth0"}}
	h.Exec.Programs["nft"] = h.nft
	for _, dir := range []string{"/etc/systemd/system/multi-user.target.wants", "/opt", "/usr/local/bin", "/var/lib", "/var/log", "/run"} {
		if err := os.MkdirAll(h.Host.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.open()
	return h
}

// open is a new session of muster-node, which knows only what is on disk.
func (h *host) open() {
	h.T.Helper()
	journal, err := agent.OpenJournal(h.Host)
	if err != nil {
		h.T.Fatal(err)
	}
	h.agent = &agent.Agent{Host: h.Host, Journal: journal, Kernel: h.kernel, Version: "v0"}
}

// nft knows `list ruleset`, `list table` and `delete table`.
func (h *host) nft(_ context.Context, _ io.Reader, argv []string) (string, error) {
	if slices.Contains(argv, "ruleset") {
		var text strings.Builder
		for _, t := range h.tables {
			fmt.Fprintf(&text, "table %s {\n\tchain input {\n\t\ttype filter hook input priority 0;\n\t}\n}\n", t)
		}
		return text.String(), nil
	}
	table := strings.Join(argv[3:], " ")
	if !slices.Contains(h.tables, table) {
		return "", steptest.ExitError(1)
	}
	if argv[1] == "delete" {
		h.tables = slices.DeleteFunc(h.tables, func(t string) bool { return t == table })
	}
	return "", nil
}

// emit keeps the events; it has the shape of protocol.Writer.Event.
func (h *host) emit(v any) error {
	h.events = append(h.events, v.(protocol.Event))
	return nil
}

// apply has steps done and returns the events that tell an end.
func (h *host) apply(steps ...step.Step) ([]protocol.Event, error) {
	h.events = nil
	err := h.agent.Apply(h.T.Context(), steps, false, h.emit)
	return slices.DeleteFunc(slices.Clone(h.events), func(e protocol.Event) bool { return e.State == protocol.Started }), err
}

// mustApply is apply of steps that succeed.
func (h *host) mustApply(steps ...step.Step) {
	h.T.Helper()
	if events, err := h.apply(steps...); err != nil {
		h.T.Fatalf("%v: %+v", err, events[len(events)-1])
	}
}

// reset resets the host, and fails the test if anything is left.
func (h *host) reset() {
	h.T.Helper()
	h.events = nil
	if err := h.agent.Reset(h.T.Context(), h.emit); err != nil {
		h.T.Fatalf("reset: %v: %+v", err, h.events[len(h.events)-1])
	}
	for _, e := range h.events {
		if len(e.Evidence) > 0 {
			h.T.Errorf("%s: left %q", e.Text, e.Evidence)
		}
	}
}

// states is how each event ended, for comparing.
func states(events []protocol.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, fmt.Sprintf("%d %s %s", e.Index, e.State, e.Text))
	}
	return strings.Join(all, "\n")
}

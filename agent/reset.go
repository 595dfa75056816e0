// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
)

// reloader is a service manager that can be told to forget removed units.
type reloader interface {
	Reload(ctx context.Context) error
}

// Reset returns the host to what it was before muster: workloads end, what
// they and the services left in the kernel goes, the journal is replayed
// backwards, and what still differs from the snapshot taken before the first
// write is reported. It can be cut anywhere and run again.
func (a *Agent) Reset(ctx context.Context, emit func(any) error) error {
	entries, err := ReadJournal(a.Host)
	if err != nil {
		return err
	}
	before, err := readSnapshot(a.Host)
	if err != nil {
		return err
	}
	stages := []struct {
		text string
		do   func(context.Context) error
	}{
		{"stop services", func(ctx context.Context) error { return a.stopUnits(ctx, entries) }},
		{"end pods", a.endPods},
		{"take down the service proxy", a.cleanProxier},
		{"unmount volumes and containers", a.unmount},
		{"remove pod network", a.removeNetwork},
		{"replay the journal backwards", func(ctx context.Context) error { return a.replay(ctx, entries) }},
		{"forget units", a.forgetUnits},
		{"start what ran before", func(ctx context.Context) error { return a.startUnits(ctx, entries) }},
		{"compare with the host before", func(ctx context.Context) error { return a.compare(ctx, before) }},
		{"remove muster itself", a.removeSelf},
	}
	for i, stage := range stages {
		start := time.Now()
		event := protocol.Event{Index: i, Text: stage.text, State: protocol.Changed}
		err := stage.do(ctx)
		event.Took = time.Since(start)
		var left *LeftError
		if errors.As(err, &left) {
			event.Evidence = left.Differences
		} else if err != nil {
			event.State, event.Cause = protocol.Failed, err.Error()
			return errors.Join(emit(event), errStep)
		}
		if err := emit(event); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) stopUnits(ctx context.Context, entries []Entry) error {
	var errs []error
	for _, e := range slices.Backward(entries) {
		if e.Before != nil && e.Before.Kind == step.TouchUnit {
			errs = append(errs, a.Host.Units.Remove(ctx, e.Before.Name))
		}
	}
	return errors.Join(errs...)
}

// Control groups that may still hold processes: pods, and shims, which outlive
// containerd by design (KillMode=process).
var podGroups = []string{"kubepods.slice", "system.slice/containerd.service"}

func (a *Agent) endPods(ctx context.Context) error {
	for _, group := range podGroups {
		kill := filepath.Join(a.Host.Path("/sys/fs/cgroup"), group, "cgroup.kill")
		err := os.WriteFile(kill, []byte("1"), 0o200)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("end processes of %s: %w", group, err)
		}
	}
	return a.Host.Units.Remove(ctx, "kubepods.slice")
}

const proxierPath = "/opt/muster/bin/muster-proxier"

func (a *Agent) cleanProxier(ctx context.Context) error {
	if _, err := os.Stat(a.Host.Path(proxierPath)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := a.Host.Exec.Run(ctx, nil, proxierPath, "--cleanup")
	return err
}

// Folders below which everything mounted is a pod's or a container's.
var mountRoots = []string{
	"/run/containerd/", "/var/lib/containerd/", "/var/lib/kubelet/", "/run/netns/cni-", "/var/run/netns/cni-",
}

func (a *Agent) unmount(context.Context) error {
	mounts, err := mountPoints(a.Host)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if slices.ContainsFunc(mountRoots, func(root string) bool { return strings.HasPrefix(m, root) }) {
			errs = append(errs, a.kernel().Unmount(m))
		}
	}
	names, err := filepath.Glob(a.Host.Path("/run/netns/cni-*"))
	errs = append(errs, err)
	for _, n := range names {
		errs = append(errs, os.Remove(n))
	}
	// CNI made the folder, unless somebody has namespaces of their own in it.
	errs = append(errs, removeNew(a.Host.Path("/run/netns"), false))
	return errors.Join(errs...)
}

// What pod networking leaves in the kernel, by name.
var (
	networkLinks  = []string{"cni0", "flannel.1", "flannel-v6.1"}
	networkTables = [][2]string{
		{"ip", "flannel-ipv4"}, {"ip6", "flannel-ipv6"}, {"ip", "cni_hostport"}, {"ip6", "cni_hostport"},
	}
)

func (a *Agent) removeNetwork(ctx context.Context) error {
	var errs []error
	for _, name := range networkLinks {
		errs = append(errs, a.kernel().DeleteLink(name))
	}
	errs = append(errs, a.removeRoutes())
	for _, t := range networkTables {
		if _, err := a.Host.Exec.Run(ctx, nil, "nft", "list", "table", t[0], t[1]); err != nil {
			continue // not there
		}
		_, err := a.Host.Exec.Run(ctx, nil, "nft", "delete", "table", t[0], t[1])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

const subnetEnv = "/run/flannel/subnet.env"

// removeRoutes takes away the routes to other hosts' pods that flannel makes
// where hosts share a link. subnet.env says which network was the pods'.
func (a *Agent) removeRoutes() error {
	env, err := os.ReadFile(a.Host.Path(subnetEnv))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.kernel().DeleteRoutes(podNetworks(string(env)))
}

// podNetworks reads FLANNEL_NETWORK and FLANNEL_IPV6_NETWORK, each a list with
// commas (flannel's pkg/subnet WriteSubnetFile).
func podNetworks(env string) []netip.Prefix {
	var networks []netip.Prefix
	for line := range strings.Lines(env) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "FLANNEL_NETWORK" && key != "FLANNEL_IPV6_NETWORK" {
			continue
		}
		for text := range strings.SplitSeq(value, ",") {
			if p, err := netip.ParsePrefix(text); err == nil {
				networks = append(networks, p)
			}
		}
	}
	return networks
}

func (a *Agent) forgetUnits(ctx context.Context) error {
	if r, ok := a.Host.Units.(reloader); ok {
		return r.Reload(ctx)
	}
	return nil
}

// LeftError lists what a reset could not take away.
type LeftError struct{ Differences []string }

func (e *LeftError) Error() string {
	return fmt.Sprintf("%d things differ from before the install", len(e.Differences))
}

func (a *Agent) compare(ctx context.Context, before []string) error {
	if before == nil {
		return nil
	}
	now, err := Snapshot(ctx, a.Host, a.kernel())
	if err != nil {
		return err
	}
	if diff := Difference(before, now); len(diff) > 0 {
		return &LeftError{diff}
	}
	return nil
}

// removeSelf removes the journal first: all of it has been undone, and without
// what it saved it could not be undone once more.
func (a *Agent) removeSelf(context.Context) error {
	return errors.Join(
		a.Journal.forget(),
		os.RemoveAll(journalPath(a.Host)),
		os.RemoveAll(a.Host.Path("/opt/muster")),
		os.RemoveAll(a.Host.Path(stampRoot)),
		os.RemoveAll(a.Host.Path(StateDir)),
	)
}

const stampRoot = "/run/muster"

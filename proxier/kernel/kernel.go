// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// Kernel implements [proxier.Kernel] for the network namespace of this
// process. Not safe for concurrent use.
type Kernel struct {
	ipvs    *ipvs
	sysctls sysctls
	rules   rules
}

// Options are what the rules of a [Kernel] depend on.
type Options struct {
	// StateDir keeps the settings that were in force before ours. It must be
	// one that a reboot empties, as a reboot resets the settings too.
	StateDir string

	MasqueradeAll bool                // of all clients of ClusterIPs
	MasqueradeBit *uint               // of the packet mark, 0 to 31; nil is DefaultMasqueradeBit
	DetectLocal   proxier.DetectLocal // which packets come from pods
}

var _ proxier.Kernel = (*Kernel)(nil)

// Open connects to the kernel. It changes nothing.
func Open(o Options) (*Kernel, error) {
	v, err := dialIPVS()
	if err != nil {
		return nil, err
	}
	return &Kernel{ipvs: v, sysctls: newSysctls(o.StateDir), rules: newRules(o)}, nil
}

// Close ends the connection. What was programmed stays in force.
func (k *Kernel) Close() error { return k.ipvs.close() }

// Prepare implements [proxier.Kernel]: settings, the table, the way for
// captured packets.
func (k *Kernel) Prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := k.sysctls.set(k.sysctls.needed()); err != nil {
		return err
	}
	if err := prepareTable(k.rules); err != nil {
		return err
	}
	return prepareCapture()
}

// Read implements [proxier.Kernel].
func (k *Kernel) Read(ctx context.Context) (proxier.State, error) {
	s := proxier.NewState()
	if err := ctx.Err(); err != nil {
		return s, err
	}
	options, err := k.ipvs.options()
	if err != nil {
		return s, err
	}
	servers, err := k.ipvs.realServers(options)
	if err != nil {
		return s, err
	}
	for f, o := range options {
		server := proxier.Server{Options: o}
		for _, d := range servers[f] {
			server.Dests = append(server.Dests, d.Dest)
		}
		s.Servers[f] = server
	}
	if s.Elements, err = readSets(); err != nil {
		return s, err
	}
	s.Routes, err = readRoutes()
	return s, err
}

// Apply implements [proxier.Kernel].
func (k *Kernel) Apply(ctx context.Context, p proxier.Plan) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := applySets(p.Before); err != nil {
		return err
	}
	// A route may be impossible, for want of its source address, and the
	// Services of the other address family are not to blame.
	faults := []error{k.forward(p.Routes)}
	for _, c := range p.Routes {
		faults = append(faults, applyRoute(c))
	}
	refused, err := k.ipvs.try(p.Servers)
	if err != nil {
		return errors.Join(append(faults, refused.Err(), err)...)
	}
	faults = append(faults, applySets(refused.Spare(p.After)), forget(p.Forget))
	if err := errors.Join(faults...); err != nil {
		return errors.Join(err, refused.Err())
	}
	return refused.Err()
}

// Connections implements [proxier.Kernel].
func (k *Kernel) Connections(ctx context.Context, of []proxier.Frontend) (map[proxier.RealServer]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	servers, err := k.someServers(of)
	if err != nil {
		return nil, err
	}
	conns := map[proxier.RealServer]int{}
	for f, list := range servers {
		for _, d := range list {
			if d.conns > 0 {
				conns[proxier.RealServer{Frontend: f, Addr: d.Addr}] = d.conns
			}
		}
	}
	return conns, nil
}

// oneByOne is up to how many virtual servers are asked for one by one. Each
// takes eleven times its share of a read of all, for which a change that comes
// meanwhile would wait.
const oneByOne = 500

func (k *Kernel) someServers(of []proxier.Frontend) (map[proxier.Frontend][]realServer, error) {
	if len(of) > oneByOne {
		options, err := k.ipvs.options()
		if err != nil {
			return nil, err
		}
		return k.ipvs.realServers(options)
	}
	servers := map[proxier.Frontend][]realServer{}
	for _, f := range of {
		list, err := k.ipvs.dests(f)
		if err != nil {
			return nil, fmt.Errorf("read the real servers of %s: %w", f, err)
		}
		servers[f] = list
	}
	return servers, nil
}

// CleanUp removes everything of ours from this host: virtual servers, routes,
// the table, and the settings that are still as we set them. It can be
// repeated, and it works where there is no IPVS.
func CleanUp(ctx context.Context, stateDir string) error {
	if err := cleanServers(ctx, stateDir); err != nil {
		return err
	}
	routes, err := readRoutes()
	if err != nil {
		return err
	}
	for prefix, source := range routes {
		if err := applyRoute(proxier.RouteChange{Prefix: prefix, Source: source, Del: true}); err != nil {
			return err
		}
	}
	return errors.Join(deleteTable(), deleteCapture(), newSysctls(stateDir).restore())
}

// cleanServers needs the table: it says which virtual servers are ours.
// Without it there may still be routes, which tell the same of ClusterIPs.
func cleanServers(ctx context.Context, stateDir string) error {
	there, err := hasTable()
	if err != nil {
		return err
	}
	if !there {
		if routes, err := readRoutes(); err != nil || len(routes) == 0 {
			return err
		}
		if err := prepareTable(newRules(Options{})); err != nil {
			return err
		}
	}
	k, err := Open(Options{StateDir: stateDir})
	if errors.Is(err, unix.ENOENT) {
		return nil // no IPVS, no virtual servers
	}
	if err != nil {
		return err
	}
	return errors.Join(proxier.CleanUp(ctx, k), k.Close())
}

func readProc() (map[proxier.Frontend][]realServer, error) {
	f, err := os.Open(procIPVS)
	if err != nil {
		return nil, fmt.Errorf("list IPVS real servers: %w", err)
	}
	defer f.Close()
	list, err := parseProc(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", procIPVS, err)
	}
	return list, nil
}

// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// Host is the kernel of this host, in the network namespace of this process.
type Host struct {
	// IPVS reads and changes virtual servers. It must be one that nobody else
	// uses at the same time.
	IPVS proxier.Kernel
	// Foreign are virtual servers that are somebody else's although they look
	// like kube-proxy's; may be nil.
	Foreign func(proxier.Frontend) bool
	// KeepDevice leaves kube-ipvs0 there, empty.
	KeepDevice bool
	// Forwards says that a FORWARD chain that drops by policy accepts Services
	// without kube-proxy's chain for that.
	Forwards bool
}

// Find lists what kube-proxy left. It changes nothing. The successor's table
// must exist: it says which virtual servers are the successor's.
func (h Host) Find(ctx context.Context) (Remains, error) {
	var r Remains
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if err := errors.Join(findNFT(&r, h.Forwards), findLegacy(ctx, &r), findDevice(&r)); err != nil {
		return r, fmt.Errorf("look for what kube-proxy left: %w", err)
	}
	if err := h.findSetsAndServers(ctx, &r); err != nil {
		return r, fmt.Errorf("look for what kube-proxy left: %w", err)
	}
	return r, nil
}

func (h Host) findSetsAndServers(ctx context.Context, r *Remains) error {
	n, err := dialNFNL()
	if err != nil {
		return err
	}
	defer n.Close()
	if r.Sets, err = n.sets(); err != nil {
		return err
	}
	// A chain that stays may go on counting.
	if len(r.Needed) == 0 {
		if r.Counters, err = n.counters(); err != nil {
			return err
		}
	}
	ports, err := n.nodePorts(r.Sets)
	if err != nil {
		return err
	}
	if len(r.Addresses)+len(ports) == 0 {
		return nil // nothing would tell a virtual server of kube-proxy's
	}
	all, err := addressesOf(nil)
	if err != nil {
		return err
	}
	return findServers(ctx, h.IPVS, r, evidence{device: setOf(r.Addresses), host: setOf(all), nodePorts: ports, keep: h.Foreign})
}

// Clear removes what Find found, as far as it may go already. Virtual servers
// with connections stay until these have ended, or with now go at once; the
// ipsets that tell whose they are, and the addresses that they or sockets are
// bound to, stay as long. Clear can be repeated with what Find finds then.
func (h Host) Clear(ctx context.Context, r Remains, now bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := errors.Join(clearNFT(r), clearLegacy(ctx, r)); err != nil {
		return err
	}
	if p := retire(r.Servers, now); p.Len() > 0 {
		if err := h.IPVS.Apply(ctx, p); err != nil && !goneAlready(err) {
			return fmt.Errorf("retire kube-proxy's virtual servers: %w", err)
		}
	}
	wait := map[netip.Addr]struct{}{}
	if !now {
		wait = r.inUse()
	}
	if r.Device {
		if err := clearDevice(func(a netip.Addr) bool { _, used := wait[a]; return used }, h.KeepDevice); err != nil {
			return err
		}
	}
	if !now && slices.ContainsFunc(r.Servers, func(s Server) bool { return s.Connections > 0 }) {
		return nil
	}
	return clearSets(ctx, r)
}

// inUse are the addresses of kube-ipvs0 that must stay for now.
func (r Remains) inUse() map[netip.Addr]struct{} {
	used := setOf(r.Bound)
	for _, s := range r.Servers {
		if s.Connections > 0 {
			used[s.Frontend.Addr.Addr()] = struct{}{}
		}
	}
	return used
}

// goneAlready reports whether all that was refused had been removed by
// somebody else meanwhile.
func goneAlready(err error) bool {
	var refused *proxier.ChangeError
	return errors.As(err, &refused) && (errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT))
}

// releaseWithin bounds the wait for rules that were deleted and that the
// kernel takes apart in the background.
const releaseWithin = 10 * time.Second

// clearSets destroys ipsets and counters. Rules hold on to them for a moment
// after their deletion.
func clearSets(ctx context.Context, r Remains) error {
	if len(r.Sets)+len(r.Counters) == 0 {
		return nil
	}
	n, err := dialNFNL()
	if err != nil {
		return err
	}
	defer n.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, releaseWithin,
		fmt.Errorf("somebody's rules use them still, %s after kube-proxy's are gone: look with `iptables-save | grep KUBE-`", releaseWithin))
	defer cancel()
	for {
		var errs []error
		for _, s := range r.Sets {
			errs = append(errs, n.destroy(s))
		}
		for _, c := range r.Counters {
			errs = append(errs, n.dropCounter(c))
		}
		err := errors.Join(errs...)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

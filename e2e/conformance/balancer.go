// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/e2e/program"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
)

// balancer is the load balancer of the lab's network: what a cloud would have.
// It gives each Service of type LoadBalancer an address, and routes that to the
// nodes, or to those that say that they have endpoints of their own. So a
// packet reaches a node as it was sent, which is what ipMode VIP means.
type balancer struct {
	say       func(format string, args ...any)
	kubectl   []string     // command line, up to the verb
	namespace string       // of the lab's network
	client    *http.Client // in that network
	nodes     []netip.Addr
	assigned  map[string]assignment // by namespace/name
}

// assignment is what a Service got.
type assignment struct {
	address    netip.Addr
	healthPort int32        // 0: every node takes its packets
	routed     []netip.Addr // where they go now
}

// addressPool is one of the networks for documentation (RFC 5737), so that
// nothing else in the lab can have it.
const addressPool = "198.51.100.0/24"

// clientAddress is from where the tests reach what has an address of the pool:
// specs take a client in the nodes' own network for a node (RFC 5737 too).
const clientAddress = "203.0.113.1"

// finalizer is the one that Kubernetes' own service controller has.
const finalizer = "service.kubernetes.io/load-balancer-cleanup"

func newBalancer(say func(string, ...any), namespace string, nodes []netip.Addr, kubectl ...string) *balancer {
	return &balancer{
		say: say, kubectl: kubectl, namespace: namespace, client: clientIn(namespace), nodes: nodes,
		assigned: map[string]assignment{},
	}
}

// healthEvery is how often nodes are asked whether they have endpoints.
const healthEvery = time.Second

// run works until ctx ends.
func (b *balancer) run(ctx context.Context) error {
	if _, err := program.Output(exec.CommandContext(ctx, "ip", "-n", b.namespace, "address", "replace", clientAddress+"/32", "dev", "lo")); err != nil {
		return fmt.Errorf("give the tests an address: %w", err)
	}
	watch := exec.CommandContext(ctx, b.kubectl[0], append(b.kubectl[1:], "get", "services", "--all-namespaces", "--watch", "--output-watch-events", "--output=json")...)
	stdout, err := watch.StdoutPipe()
	if err != nil {
		return err
	}
	if err := watch.Start(); err != nil {
		return fmt.Errorf("watch Services: %w", err)
	}
	events := make(chan serviceEvent)
	ended := make(chan error, 1)
	go func() { ended <- readEvents(ctx, stdout, events) }()
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(<-ended, ignoreEnd(watch.Wait()))
		case err := <-ended:
			return fmt.Errorf("watch Services: it ended: %w", errors.Join(err, watch.Wait()))
		case event := <-events:
			if err := b.handle(ctx, event); err != nil && ctx.Err() == nil {
				b.say("load balancer: %v", err)
			}
		case <-tick.C:
			b.checkHealth(ctx)
		}
	}
}

// ignoreEnd drops the error of a program that was ended on purpose.
func ignoreEnd(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// serviceEvent is one line of kubectl's watch.
type serviceEvent struct {
	Type   string
	Object corev1.Service
}

func readEvents(ctx context.Context, from io.Reader, to chan<- serviceEvent) error {
	decoder := json.NewDecoder(from)
	for {
		var event serviceEvent
		if err := decoder.Decode(&event); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case to <- event:
		case <-ctx.Done():
			return nil
		}
	}
}

// handle brings a Service where it should be, one patch at a time: each patch
// is an event of its own, which continues.
func (b *balancer) handle(ctx context.Context, event serviceEvent) error {
	s := &event.Object
	key := s.Namespace + "/" + s.Name
	if event.Type == "DELETED" {
		return b.release(ctx, key)
	}
	current, has := b.assigned[key]
	marked := slices.Contains(s.Finalizers, finalizer)
	switch {
	case wantsAddress(s) && !marked:
		return b.mark(ctx, s, append(slices.Clone(s.Finalizers), finalizer))
	case wantsAddress(s):
		if !has {
			address, err := b.pick(s)
			if err != nil {
				return err
			}
			current = assignment{address: address}
		}
		current.healthPort = s.Spec.HealthCheckNodePort
		b.assigned[key] = current
		if shown(s) != current.address {
			return b.show(ctx, s, current.address)
		}
		return nil
	case shown(s).IsValid():
		return errors.Join(b.release(ctx, key), b.show(ctx, s, netip.Addr{}))
	case marked:
		return b.mark(ctx, s, slices.DeleteFunc(slices.Clone(s.Finalizers), func(f string) bool { return f == finalizer }))
	}
	return nil
}

// wantsAddress leaves Services of another balancer alone.
func wantsAddress(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil
}

// shown is the address that the Service's status has.
func shown(s *corev1.Service) netip.Addr {
	if len(s.Status.LoadBalancer.Ingress) == 0 || s.Spec.LoadBalancerClass != nil {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(s.Status.LoadBalancer.Ingress[0].IP)
	if err != nil {
		return netip.Addr{}
	}
	return address
}

// pick finds a free address; the one that an earlier run gave is kept.
func (b *balancer) pick(s *corev1.Service) (netip.Addr, error) {
	pool := netip.MustParsePrefix(addressPool)
	if before := shown(s); pool.Contains(before) {
		return before, nil
	}
	taken := map[netip.Addr]bool{}
	for _, a := range b.assigned {
		taken[a.address] = true
	}
	for a := pool.Addr().Next(); pool.Contains(a); a = a.Next() {
		if !taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %s is free", addressPool)
}

// change is a merge patch of a Service.
type change struct {
	Metadata *metadataChange `json:"metadata,omitempty"`
	Status   *statusChange   `json:"status,omitempty"`
}

type metadataChange struct {
	ResourceVersion string   `json:"resourceVersion"` // of what was seen: nobody's finalizer gets lost
	Finalizers      []string `json:"finalizers"`
}

type statusChange struct {
	LoadBalancer struct {
		Ingress []ingress `json:"ingress"` // empty, not missing: that removes
	} `json:"loadBalancer"`
}

type ingress struct {
	IP     string `json:"ip"`
	IPMode string `json:"ipMode"`
}

// mark writes the Service's finalizers.
func (b *balancer) mark(ctx context.Context, s *corev1.Service, finalizers []string) error {
	return b.patch(ctx, s, change{Metadata: &metadataChange{s.ResourceVersion, finalizers}})
}

// show writes the Service's status; an invalid address is none.
func (b *balancer) show(ctx context.Context, s *corev1.Service, address netip.Addr) error {
	status := &statusChange{}
	status.LoadBalancer.Ingress = []ingress{}
	if address.IsValid() {
		status.LoadBalancer.Ingress = append(status.LoadBalancer.Ingress, ingress{address.String(), string(corev1.LoadBalancerIPModeVIP)})
	}
	return b.patch(ctx, s, change{Status: status}, "--subresource=status")
}

func (b *balancer) patch(ctx context.Context, s *corev1.Service, c change, flags ...string) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	args := slices.Concat(b.kubectl[1:], []string{"patch", "service", s.Name, "--namespace=" + s.Namespace, "--type=merge", "--patch=" + string(text)}, flags)
	_, err = program.Output(exec.CommandContext(ctx, b.kubectl[0], args...))
	return err
}

func (b *balancer) release(ctx context.Context, key string) error {
	old, ok := b.assigned[key]
	if !ok {
		return nil
	}
	delete(b.assigned, key)
	return b.route(ctx, old.address, nil)
}

// checkHealth routes each address to the nodes that take its packets.
func (b *balancer) checkHealth(ctx context.Context) {
	for key, a := range b.assigned {
		nodes := b.nodes
		if a.healthPort != 0 {
			nodes = slices.DeleteFunc(slices.Clone(b.nodes), func(n netip.Addr) bool { return !b.healthy(ctx, n, a.healthPort) })
		}
		if slices.Equal(nodes, a.routed) && len(nodes) > 0 {
			continue
		}
		if err := b.route(ctx, a.address, nodes); err != nil {
			b.say("load balancer: %v", err)
			continue
		}
		a.routed = nodes
		b.assigned[key] = a
	}
}

// healthy asks a node's health check port.
func (b *balancer) healthy(ctx context.Context, node netip.Addr, port int32) bool {
	ctx, cancel := context.WithTimeout(ctx, healthEvery)
	defer cancel()
	url := fmt.Sprintf("http://%s/healthz", netip.AddrPortFrom(node, uint16(port)))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := b.client.Do(request)
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// clientIn gives a client whose connections begin in a network namespace. Each
// request has one of its own, as with the health checks of clouds.
func clientIn(namespace string) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		// Never unlocked: the thread, which is then in the namespace, ends with
		// the goroutine, which the transport has for this one call.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(namespace)
		if err != nil {
			return nil, fmt.Errorf("enter network namespace %s: %w", namespace, err)
		}
		defer ns.Close() //nolint:errcheck // only entered
		if err := netns.Set(ns); err != nil {
			return nil, fmt.Errorf("enter network namespace %s: %w", namespace, err)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

func (b *balancer) route(ctx context.Context, address netip.Addr, nodes []netip.Addr) error {
	_, err := program.Output(exec.CommandContext(ctx, "ip", append([]string{"-n", b.namespace}, routeArgs(address, nodes)...)...))
	return err
}

// routeArgs are the arguments of ip for sending an address's packets to nodes.
func routeArgs(address netip.Addr, nodes []netip.Addr) []string {
	if len(nodes) == 0 {
		return []string{"route", "replace", "blackhole", address.String()}
	}
	args := []string{"route", "replace", address.String(), "src", clientAddress}
	for _, n := range nodes {
		args = append(args, strings.Fields("nexthop via "+n.String())...)
	}
	return args
}

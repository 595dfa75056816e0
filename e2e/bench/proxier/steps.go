// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// rolling replaces every endpoint of some Services, one event each.
func (s *session) rolling(ctx context.Context) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := pause(ctx, changePause); err != nil {
		return err
	}
	before, err := s.process.cpu()
	if err != nil {
		return err
	}
	services := min(rollingServices, s.cluster.services-1)
	wanted := map[int][]netip.Addr{}
	for n := range services * perService {
		service := 1 + n%services
		endpoint, err := s.replace(service, n/services)
		if err != nil {
			return err
		}
		wanted[service] = append(wanted[service], endpoint)
		if err := pause(ctx, rollingPause); err != nil {
			return err
		}
	}
	s.result.Rolling, err = s.until(ctx, time.Now(), func() (bool, error) {
		for service, endpoints := range wanted {
			for len(endpoints) > 0 {
				if ok, err := s.eye.serves(service, endpoints[0]); !ok || err != nil {
					return false, err
				}
				endpoints = endpoints[1:]
				wanted[service] = endpoints // what was seen once stays
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("rolling update: %w", err)
	}
	after, err := s.process.cpu()
	s.result.RollingCPU = after - before
	s.say("rolling update: %s after the last event, %.2fs of CPU", s.result.Rolling.Took, s.result.RollingCPU.Seconds())
	return err
}

// families are the address families of which kube-proxy looks at each by
// itself: it always works for both.
const families = 2

// rest leaves the contender alone. kube-proxy's ipvs mode passes over the
// kernel every syncPeriod meanwhile.
func (s *session) rest(ctx context.Context) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	forks, err := s.forks.so()
	if err != nil {
		return err
	}
	passed, err := passes(ctx)
	if err != nil {
		return err
	}
	cpu, err := s.process.cpu() // after that, since metrics of many Services take time
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, restTime); err != nil {
		return err
	}
	// A pass counts when it ends, which may be after the pause.
	if s.who == kubeIPVS {
		_, err = s.until(ctx, begin, func() (bool, error) {
			now, err := passes(ctx)
			s.result.Resync = now.since(passed)
			return s.result.Resync.Count >= families, err
		})
		if err != nil {
			return err
		}
	}
	s.result.Rest = time.Since(begin)
	after, err := s.process.cpu()
	if err != nil {
		return err
	}
	s.result.RestCPU, s.result.ResyncCPU = after-cpu, after-cpu
	all, err := s.forks.so()
	if err != nil {
		return err
	}
	s.result.RestForks, s.result.Forks = all-forks, all-s.result.ColdForks
	s.say("rest: %s of CPU, %d passes in %s, %d forks", s.result.RestCPU, s.result.Resync.Count, s.result.Resync.Took, s.result.RestForks)
	return s.memory(ctx)
}

// memory notes how much there is.
func (s *session) memory(context.Context) (err error) {
	s.result.PeakRSS, s.result.RestRSS, err = s.process.memory()
	s.result.PeakMemory = s.process.tree()
	s.say("memory: %d MB at most, %d MB now, %d MB with what it started", s.result.PeakRSS>>20, s.result.RestRSS>>20, s.result.PeakMemory>>20)
	return err
}

// resync has muster look at the whole kernel, which it does every 15 minutes
// and whenever it sees that somebody deleted something of its own. kube-proxy
// did it during the rest, if it does it at all.
func (s *session) resync(ctx context.Context) error {
	watched, ok := s.eye.(*ipvsEye)
	if !ok || s.who != muster {
		return nil
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	before, err := passes(ctx)
	if err != nil {
		return err
	}
	cpu, err := s.process.cpu()
	if err != nil {
		return err
	}
	if err := watched.provoke(); err != nil {
		return fmt.Errorf("provoke a resync: %w", err)
	}
	// Metrics have counters of every Service, which take the contender's time:
	// they are asked for once.
	if err := s.settle(ctx); err != nil {
		return fmt.Errorf("resync: %w", err)
	}
	after, err := s.process.cpu()
	if err != nil {
		return err
	}
	s.result.ResyncCPU = after - cpu
	now, err := passes(ctx)
	s.result.Resync = now.since(before)
	s.say("resync: %s, %s of CPU", s.result.Resync.Took, s.result.ResyncCPU)
	return err
}

// The ways to the pods that are compared.
const (
	direct    = "pod"
	clusterIP = "ClusterIP"
	throughNP = "NodePort"
)

func paths() []string { return []string{direct, clusterIP, throughNP} }

// dataKey names a load: a connection per request, or one for all.
func dataKey(path string, keepAlive bool) string { return fmt.Sprintf("%s %v", path, keepAlive) }

// data sends requests from the client.
func (s *session) data(context.Context) error {
	targets := map[string]netip.AddrPort{
		direct:    netip.AddrPortFrom(podAddr(0, 0, 0), endpointPort),
		clusterIP: netip.AddrPortFrom(vip(0), servicePort),
		throughNP: netip.AddrPortFrom(nodeAddr(), nodePort),
	}
	s.result.Data = map[string]loadResult{}
	for _, keepAlive := range []bool{false, true} {
		for _, path := range paths() {
			r, err := s.network.client.order(load{Target: targets[path], KeepAlive: keepAlive, Clients: loadClients, For: loadTime})
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			s.result.Data[dataKey(path, keepAlive)] = r
			s.say("%s, keep-alive %v: %.0f/s, p50 %s, p99 %s, %d without an answer", path, keepAlive, r.rate(), r.P50, r.P99, r.Faults)
		}
	}
	return nil
}

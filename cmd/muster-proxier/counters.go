// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
)

// countersTimeout bounds what one scrape waits for the loop.
const countersTimeout = 5 * time.Second

// servicePort is one port of a Service, with all its frontends together.
type servicePort struct {
	service proxier.Name
	port    string
}

// counters are the connections, packets and bytes of each Service port, as
// IPVS counts them. A port that nobody used yet is left out: most of a large
// cluster's never are on one node.
type counters struct {
	read func(context.Context) (map[proxier.Frontend]kernel.Stats, error)
	look looker
	log  *slog.Logger

	connections, packets, bytes *prometheus.Desc

	mu    sync.Mutex
	last  map[proxier.Frontend]kernel.Stats // to see what was added since
	total map[servicePort]kernel.Stats
}

var _ prometheus.Collector = (*counters)(nil)

func newCounters(read func(context.Context) (map[proxier.Frontend]kernel.Stats, error), look looker, log *slog.Logger) *counters {
	labels := []string{"namespace", "service", "port"}
	desc := func(what, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("muster_proxier_service_"+what+"_total", help, append(labels[:3:3], more...), nil)
	}
	return &counters{
		read: read, look: look, log: log,
		connections: desc("connections", "Connections that were given to an endpoint from this node."),
		packets:     desc("packets", "Packets from clients (in) and to them (out).", "direction"),
		bytes:       desc("bytes", "Bytes from clients (in) and to them (out).", "direction"),
	}
}

// Describe implements [prometheus.Collector].
func (c *counters) Describe(to chan<- *prometheus.Desc) {
	to <- c.connections
	to <- c.packets
	to <- c.bytes
}

// Collect implements [prometheus.Collector]. What cannot be read is left out:
// the other metrics say what is wrong.
func (c *counters) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countersTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.update(ctx); err != nil {
		c.log.Warn("the counters of Services are missing in this answer", "error", err)
		return
	}
	for p, s := range c.total {
		send := func(desc *prometheus.Desc, n uint64, direction ...string) {
			labels := append([]string{p.service.Namespace, p.service.Name, p.port}, direction...)
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
		}
		send(c.connections, s.Connections)
		send(c.packets, s.PacketsIn, "in")
		send(c.packets, s.PacketsOut, "out")
		send(c.bytes, s.BytesIn, "in")
		send(c.bytes, s.BytesOut, "out")
	}
}

// update adds what happened since the last time. A sum over frontends must
// not fall when one of them goes, or it would look like a restart.
func (c *counters) update(ctx context.Context) error {
	now, err := c.read(ctx)
	if err != nil {
		return err
	}
	for f, s := range now {
		if s == (kernel.Stats{}) {
			delete(now, f)
		}
	}
	total := map[servicePort]kernel.Stats{}
	err = c.look(ctx, func(m *proxier.Model, _ proxier.State) {
		for f, s := range now {
			owner, ours := m.Owner(f)
			if !ours {
				delete(now, f)
				continue
			}
			p := servicePort{owner.Service, owner.Port}
			sum, known := total[p]
			if !known {
				sum = c.total[p]
			}
			total[p] = plus(sum, since(c.last[f], s))
		}
		for p, s := range c.total {
			if _, done := total[p]; !done && m.HasService(p.service) {
				total[p] = s
			}
		}
	})
	if err != nil {
		return err
	}
	c.last, c.total = now, total
	return nil
}

// since is what was added. Counters that fell are those of a virtual server
// that was made anew.
func since(last, now kernel.Stats) kernel.Stats {
	if now.Connections < last.Connections || now.PacketsIn < last.PacketsIn || now.PacketsOut < last.PacketsOut ||
		now.BytesIn < last.BytesIn || now.BytesOut < last.BytesOut {
		return now
	}
	return kernel.Stats{
		Connections: now.Connections - last.Connections,
		PacketsIn:   now.PacketsIn - last.PacketsIn, PacketsOut: now.PacketsOut - last.PacketsOut,
		BytesIn: now.BytesIn - last.BytesIn, BytesOut: now.BytesOut - last.BytesOut,
	}
}

func plus(a, b kernel.Stats) kernel.Stats {
	return kernel.Stats{
		Connections: a.Connections + b.Connections,
		PacketsIn:   a.PacketsIn + b.PacketsIn, PacketsOut: a.PacketsOut + b.PacketsOut,
		BytesIn: a.BytesIn + b.BytesIn, BytesOut: a.BytesOut + b.BytesOut,
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package member runs one etcd member inside this process, and asks a running
// one how it is. It is etcd's own server; nothing of it is changed.
package member

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/muster-project/muster/etcd"
)

// ErrStopped says that the member ended by itself: it was removed from its
// cluster, or could not go on.
var ErrStopped = errors.New("the member stopped by itself, which happens when it was removed from its cluster")

// Serve runs the member until the context ends, then stops it in good order: a
// leader hands over first. ready is called once, when the member has a leader
// and answers clients. A data directory with a member in it goes on with what
// it knows, and the initial settings of the configuration do not count.
func Serve(ctx context.Context, c etcd.Config, ready func()) error {
	cfg, err := embedded(c)
	if err != nil {
		return fmt.Errorf("start etcd member %s: %w", c.Name, err)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd member %s in %s: %w", c.Name, c.DataDir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return stopEarly(e, fmt.Errorf("etcd member %s: listen: %w", c.Name, err))
	case <-e.Server.StopNotify():
		return stopEarly(e, fmt.Errorf("etcd member %s: %w", c.Name, ErrStopped))
	case <-ctx.Done():
		return stopEarly(e, nil)
	}
	ready()
	defer e.Close()
	select {
	case err := <-e.Err():
		return fmt.Errorf("etcd member %s: serve: %w", c.Name, err)
	case <-e.Server.StopNotify():
		return fmt.Errorf("etcd member %s: %w", c.Name, ErrStopped)
	case <-ctx.Done():
		return nil
	}
}

// stopEarly ends a member that never had a leader. embed's Close waits for
// client servers that only start, or give up, once the server is ready or
// stopping (embed/serve.go, serveCtx.serve): without HardStop it waits for ever.
func stopEarly(e *embed.Etcd, err error) error {
	e.Server.HardStop()
	e.Close()
	return err
}

func embedded(c etcd.Config) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = c.Name, c.DataDir
	var errs []error
	parse := func(list []string) []url.URL {
		out, err := parseURLs(list)
		errs = append(errs, err)
		return out
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = parse(c.ListenPeerURLs), parse(c.AdvertisePeerURLs)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = parse(c.ListenClientURLs), parse(c.AdvertiseClientURLs)
	cfg.ListenMetricsUrls = parse(c.MetricsURLs)

	cfg.InitialCluster = initialCluster(c.InitialCluster)
	cfg.InitialClusterToken = c.InitialToken
	cfg.ClusterState = string(c.InitialState)

	cfg.PeerTLSInfo, cfg.ClientTLSInfo = mutual(c.Peer), mutual(c.Client)
	cfg.TlsMinVersion = "TLS1.3"
	// JSON over HTTP, for clients that cannot speak gRPC; there are none.
	cfg.EnableGRPCGateway = false

	cfg.TickMs, cfg.ElectionMs = uint(c.Heartbeat.Milliseconds()), uint(c.Election.Milliseconds())
	cfg.QuotaBackendBytes = c.QuotaBytes
	cfg.SnapshotCount = c.SnapshotCount
	// No auto-compaction: kube-apiserver compacts every five minutes itself,
	// and keeps the revisions that its watches need.

	cfg.LogOutputs = []string{embed.StdErrLogOutput}
	// The default is set by etcd's own flags, not by embed.NewConfig: at 0 every
	// request is logged with its text (etcdmain/config.go, 3.6).
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	errs = append(errs, checkCorruption(cfg))
	return cfg, errors.Join(errs...)
}

// checkCorruption turns on the comparisons between members that etcd has had
// since the data inconsistency of 3.5 and still keeps off by default
// (https://etcd.io/docs/v3.6/op-guide/data_corruption/).
func checkCorruption(cfg *embed.Config) error {
	gate, ok := cfg.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return fmt.Errorf("feature gates of etcd are a %T, which cannot be set", cfg.ServerFeatureGate)
	}
	return gate.Set("InitialCorruptCheck=true,CompactHashCheck=true")
}

func initialCluster(peers []etcd.Peer) string {
	parts := make([]string, len(peers))
	for i, p := range peers {
		parts[i] = p.Name + "=" + p.URL
	}
	return strings.Join(parts, ",")
}

func mutual(t etcd.TLS) transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: true}
}

func parseURLs(list []string) ([]url.URL, error) {
	out := make([]url.URL, 0, len(list))
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, *u)
	}
	return out, nil
}

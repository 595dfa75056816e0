// SPDX-License-Identifier: Apache-2.0

package member_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-project/muster/etcd"
	"github.com/muster-project/muster/etcd/etcdtest"
	"github.com/muster-project/muster/etcd/member"
	"github.com/muster-project/muster/pki"
)

// patience is for a busy machine; every wait of these tests ends on its event.
const patience = time.Minute

// running is a member in this process.
type running struct {
	t     *testing.T
	c     etcd.Config
	stop  context.CancelFunc
	ready chan struct{}
	done  chan error
}

func start(t *testing.T, c etcd.Config) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: t, c: c, stop: stop, ready: make(chan struct{}), done: make(chan error, 1)}
	go func() { r.done <- member.Serve(ctx, c, func() { close(r.ready) }) }()
	t.Cleanup(stop)
	return r
}

func (r *running) waitReady() *running {
	r.t.Helper()
	select {
	case <-r.ready:
	case err := <-r.done:
		r.t.Fatalf("%s ended before it was ready: %v", r.c.Name, err)
	case <-time.After(patience):
		r.t.Fatalf("%s: not ready within %s", r.c.Name, patience)
	}
	return r
}

func (r *running) end() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		r.t.Fatalf("%s: still there %s after it was told to stop", r.c.Name, patience)
		return nil
	}
}

func (r *running) stopNow() {
	r.t.Helper()
	r.stop()
	if err := r.end(); err != nil {
		r.t.Fatalf("%s: stop: %v", r.c.Name, err)
	}
}

func (r *running) health() etcd.Health {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	h, err := member.Health(ctx, r.c)
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *running) client() *clientv3.Client {
	r.t.Helper()
	tls, err := transport.TLSInfo{CertFile: r.c.Health.Cert, KeyFile: r.c.Health.Key, TrustedCAFile: r.c.Health.CA}.ClientConfig()
	if err != nil {
		r.t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: r.c.ListenClientURLs, TLS: tls, Logger: zap.NewNop()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { client.Close() })
	return client
}

func TestOneMemberAndItsData(t *testing.T) {
	c := etcdtest.Configs(t, etcdtest.NewCA(t), "m1")[0]
	began := time.Now()
	r := start(t, c).waitReady()
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	h := r.health()
	if !h.Healthy || h.Members != 1 || h.LeaderID != h.MemberID || h.DBSize == 0 || h.DBQuota != c.QuotaBytes {
		t.Errorf("health: %+v", h)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.client().Put(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	metrics(t, c.MetricsURLs[0], "/metrics", "etcd_server_has_leader 1")
	metrics(t, c.MetricsURLs[0], "/health", `"health":"true"`)
	r.stopNow()

	// A data directory with a member goes on with what it knows.
	c.InitialCluster = append(c.InitialCluster, etcd.Peer{Name: "never", URL: "https://127.0.0.1:1"})
	c.InitialToken = "another"
	r = start(t, c).waitReady()
	got, err := r.client().Get(ctx, "a")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" {
		t.Errorf("after the restart: %v, %v", got, err)
	}
	if h := r.health(); !h.Healthy || h.Members != 1 {
		t.Errorf("health after the restart: %+v", h)
	}
	r.stopNow()
}

func metrics(t *testing.T, base, path, want string) {
	t.Helper()
	resp, err := http.Get(base + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), want) {
		t.Errorf("%s: %v, %q not in %d bytes", path, err, want, len(body))
	}
}

func TestThreeMembersQuorumLostAndBack(t *testing.T) {
	t.Parallel()
	configs := etcdtest.Configs(t, etcdtest.NewCA(t), "m1", "m2", "m3")
	var members []*running
	for _, c := range configs {
		members = append(members, start(t, c))
	}
	leaders := map[string]bool{}
	for _, m := range members {
		m.waitReady()
		h := m.health()
		if !h.Healthy || h.Members != 3 {
			t.Errorf("%s: %+v", m.c.Name, h)
		}
		leaders[h.LeaderID] = true
	}
	if len(leaders) != 1 {
		t.Errorf("members follow different leaders: %v", leaders)
	}
	list, err := member.Members(context.Background(), configs[1])
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range list.Members {
		if m.Name != configs[i].Name || m.PeerURLs[0] != configs[i].AdvertisePeerURLs[0] || m.Learner {
			t.Errorf("member %d: %+v", i, m)
		}
	}

	members[0].stopNow()
	members[1].stopNow()
	if h := members[2].health(); h.Healthy || h.Problem == "" {
		t.Errorf("without a quorum: %+v", h)
	}
	members[0] = start(t, configs[0])
	members[0].waitReady()
	if h := members[0].health(); !h.Healthy || h.Members != 3 {
		t.Errorf("with a quorum again: %+v", h)
	}
	members[0].stopNow()
	members[2].stopNow()
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	ca, stranger := etcdtest.NewCA(t), etcdtest.NewCA(t)
	c := etcdtest.Configs(t, ca, "m1")[0]
	r := start(t, c).waitReady()
	for name, tls := range map[string]etcd.TLS{
		"client of another authority": {Cert: stranger.Issue(t, "x", pki.EtcdHealthClient()).Cert, Key: stranger.Issue(t, "x", pki.EtcdHealthClient()).Key, CA: c.Health.CA},
		"server of another authority": {Cert: c.Health.Cert, Key: c.Health.Key, CA: stranger.Issue(t, "y", pki.EtcdHealthClient()).CA},
	} {
		asking := *r
		asking.c.Health = tls
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		h, err := member.Health(ctx, asking.c)
		cancel()
		if err == nil && h.Healthy {
			t.Errorf("%s: was answered", name)
		}
	}
	if h := r.health(); !h.Healthy {
		t.Errorf("the right client: %+v", h)
	}
	r.stopNow()
}

func TestAMemberWithoutQuorumStopsWhenTold(t *testing.T) {
	t.Parallel()
	// Two of three, and the second has its certificate from somewhere else: no
	// leader can come of it.
	configs := etcdtest.Configs(t, etcdtest.NewCA(t), "m1", "m2", "m3")
	configs[1].Peer = etcdtest.NewCA(t).Issue(t, "m2", pki.EtcdPeer("m2"))
	first, second := start(t, configs[0]), start(t, configs[1])
	select {
	case <-first.ready:
		t.Error("ready with a peer from another authority")
	case <-second.ready:
		t.Error("ready with a peer from another authority")
	case <-time.After(3 * etcd.DefaultElection):
	}
	first.stopNow()
	second.stopNow()
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	ca := etcdtest.NewCA(t)
	c := etcdtest.Configs(t, ca, "m1")[0]
	r := start(t, c).waitReady()
	other := etcdtest.Configs(t, ca, "m2")[0]
	other.ListenClientURLs = c.ListenClientURLs
	if err := start(t, other).end(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	r.stopNow()
}

func TestARemovedMemberSaysSo(t *testing.T) {
	t.Parallel()
	configs := etcdtest.Configs(t, etcdtest.NewCA(t), "m1", "m2", "m3")
	var members []*running
	for _, c := range configs {
		members = append(members, start(t, c))
	}
	for _, m := range members {
		m.waitReady()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := members[0].client()
	list, err := client.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Members {
		if m.Name != "m3" {
			continue
		}
		// etcd refuses ("unhealthy cluster") while members have been connected
		// to each other for less than five seconds.
		for err = errors.New("not tried"); err != nil && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			_, err = client.MemberRemove(ctx, m.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := members[2].end(); !errors.Is(err, member.ErrStopped) {
		t.Errorf("got %v, want %v", err, member.ErrStopped)
	}
	members[0].stopNow()
	members[1].stopNow()
}

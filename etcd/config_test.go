// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/etcd"
	"github.com/muster-project/muster/internal/golden"
)

func example() etcd.Config {
	side := func(name string) etcd.TLS {
		dir := "/etc/kubernetes/pki/etcd/"
		return etcd.TLS{Cert: dir + name + ".crt", Key: dir + name + ".key", CA: dir + "ca.crt"}
	}
	return etcd.Config{
		Name: "cp-1", DataDir: "/var/lib/etcd",
		ListenPeerURLs: []string{"https://10.0.0.11:2380"}, AdvertisePeerURLs: []string{"https://10.0.0.11:2380"},
		ListenClientURLs:    []string{"https://10.0.0.11:2379", "https://127.0.0.1:2379"},
		AdvertiseClientURLs: []string{"https://10.0.0.11:2379"},
		InitialCluster:      []etcd.Peer{{Name: "cp-1", URL: "https://10.0.0.11:2380"}, {Name: "cp-2", URL: "https://[fd00::12]:2380"}},
		InitialToken:        "demo",
		Peer:                side("peer"), Client: side("server"), Health: side("healthcheck-client"),
	}
}

func TestRenderParse(t *testing.T) {
	out, err := example().Render()
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "etcd.yaml.golden", out)
	back, err := etcd.Parse(out)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Render()
	if err != nil || string(again) != string(out) {
		t.Errorf("rendered again: %v\n%s", err, again)
	}
	want := example()
	want.MetricsURLs = []string{etcd.DefaultMetricsURL}
	want.InitialState, want.Heartbeat, want.Election = etcd.New, etcd.DefaultHeartbeat, etcd.DefaultElection
	want.QuotaBytes, want.SnapshotCount = etcd.DefaultQuotaBytes, etcd.DefaultSnapshotCount
	if !reflect.DeepEqual(back, want) {
		t.Errorf("parsed back:\n%+v\nwant:\n%+v", back, want)
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*etcd.Config)
		want   []string
	}{
		"no name":         {func(c *etcd.Config) { c.Name = "" }, []string{"name: is empty", `initialCluster: this member, ""`}},
		"plain http":      {func(c *etcd.Config) { c.ListenPeerURLs[0] = "http://10.0.0.11:2380" }, []string{"listenPeerURLs[0]", "want https://"}},
		"no port":         {func(c *etcd.Config) { c.AdvertiseClientURLs[0] = "https://10.0.0.11" }, []string{"advertiseClientURLs[0]"}},
		"no client URL":   {func(c *etcd.Config) { c.ListenClientURLs = nil }, []string{"listenClientURLs: is empty"}},
		"no peer CA":      {func(c *etcd.Config) { c.Peer.CA = "" }, []string{"peer.ca: is empty"}},
		"no token":        {func(c *etcd.Config) { c.InitialToken = "" }, []string{"initialToken"}},
		"not in cluster":  {func(c *etcd.Config) { c.InitialCluster = c.InitialCluster[1:] }, []string{`"cp-1", is not in it`}},
		"member twice":    {func(c *etcd.Config) { c.InitialCluster[1].Name = "cp-1" }, []string{"initialCluster[1].name", "twice"}},
		"name with comma": {func(c *etcd.Config) { c.InitialCluster[1].Name = "a,b" }, []string{"initialCluster[1].name"}},
		"bad state":       {func(c *etcd.Config) { c.InitialState = "old" }, []string{"initialState"}},
		"short election":  {func(c *etcd.Config) { c.Election = 2 * etcd.DefaultHeartbeat }, []string{"election"}},
		"long election":   {func(c *etcd.Config) { c.Election = time.Minute }, []string{"at most 50s"}},
		"negative quota":  {func(c *etcd.Config) { c.QuotaBytes = -1 }, []string{"quotaBytes"}},
		"two faults":      {func(c *etcd.Config) { c.DataDir, c.Health.Key = "", "" }, []string{"dataDir", "health.key"}},
	} {
		c := example()
		test.change(&c)
		_, err := c.Render()
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q in it", name, err, want)
			}
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	good, err := example().Render()
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string]string{
		"unknown key":   string(good) + "unsafeNoFsync: true\n",
		"two documents": string(good) + "---\nname: x\n",
		"key twice":     string(good) + "name: other\n",
		"not a mapping": "- name",
		"empty":         "",
	} {
		if _, err := etcd.Parse([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := etcd.Load(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("missing file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	good, err := example().Render()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("name: [\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := etcd.Parse(data)
		if err != nil {
			return
		}
		out, err := c.Render()
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		back, err := etcd.Parse(out)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("does not come back: %v\n%+v\n%+v", err, c, back)
		}
	})
}

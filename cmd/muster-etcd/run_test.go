// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/etcd"
	"github.com/muster-project/muster/etcd/etcdtest"
)

const patience = time.Minute

type result struct {
	code     int
	out, err string
}

func runIn(args ...string) result {
	var out, errOut bytes.Buffer
	err := run(context.Background(), args, strings.NewReader(""), &out, &errOut)
	code := exitCode(err, &errOut)
	return result{code, out.String(), errOut.String()}
}

func configFile(t *testing.T, c etcd.Config) string {
	t.Helper()
	data, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "etcd.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// notifySocket is where systemd listens.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func expectNotice(t *testing.T, conn *net.UnixConn, want string) {
	t.Helper()
	buf := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("systemd was told %q, %v; want %q", buf[:n], err, want)
	}
}

func TestServeHealthMembers(t *testing.T) {
	c := etcdtest.Configs(t, etcdtest.NewCA(t), "m1")[0]
	path := configFile(t, c)
	systemd := notifySocket(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--config", path}, strings.NewReader(""), io.Discard, io.Discard)
	}()
	expectNotice(t, systemd, "READY=1")

	got := runIn("health", "--config", path)
	if got.code != 0 || !strings.Contains(got.out, "m1: healthy, 1 members (0 learners)") {
		t.Errorf("health: %+v", got)
	}
	got = runIn("health", "--config", path, "-o", "json")
	var h etcd.Health
	if err := json.Unmarshal([]byte(got.out), &h); err != nil || got.code != 0 || !h.Healthy || h.APIVersion != etcd.ReportVersion {
		t.Errorf("health -o json: %v, %+v", err, got)
	}
	got = runIn("members", "--config", path)
	if got.code != 0 || !strings.Contains(got.out, "m1") || !strings.Contains(got.out, c.AdvertisePeerURLs[0]) {
		t.Errorf("members: %+v", got)
	}
	var list etcd.MemberList
	got = runIn("members", "--config", path, "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &list); err != nil || len(list.Members) != 1 || list.Members[0].Name != "m1" {
		t.Errorf("members -o json: %v, %+v", err, got)
	}

	stop()
	expectNotice(t, systemd, "STOPPING=1")
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("serve: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("serve did not end")
	}
}

func TestExitCodes(t *testing.T) {
	stopped := configFile(t, etcdtest.Configs(t, etcdtest.NewCA(t), "m1")[0])
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("nme: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string // on stderr
	}{
		"help":            {[]string{"--help"}, 0, ""},
		"no command":      {nil, 2, "want a command"},
		"unknown command": {[]string{"sreve"}, 2, `"sreve"`},
		"unknown flag":    {[]string{"serve", "--unsafe-no-fsync"}, 2, "unsafe-no-fsync"},
		"argument":        {[]string{"serve", "now"}, 2, "takes no arguments"},
		"unknown output":  {[]string{"health", "-o", "xml"}, 2, `"xml"`},
		"no file":         {[]string{"serve", "--config", "/nonexistent/etcd.yaml"}, 1, "/nonexistent/etcd.yaml"},
		"bad file":        {[]string{"health", "--config", broken}, 1, "nme"},
		"not running":     {[]string{"health", "--config", stopped}, 3, "does not answer"},
		"members of none": {[]string{"members", "--config", stopped}, 1, "ask member m1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := runIn(test.args...)
			if got.code != test.code || !strings.Contains(got.err, test.want) {
				t.Errorf("exit code %d, want %d; stderr: %s", got.code, test.code, got.err)
			}
		})
	}
}

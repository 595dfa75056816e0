// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/internal/golden"
)

// full is a host with something of everything that a snapshot describes.
func full(t *testing.T) *host {
	h := newHost(t)
	h.Write("/etc/hosts", 0o644, "127.0.0.1 localhost\n")
	h.Write("/etc/passwd-", 0o600, "what useradd leaves")
	h.Write("/opt/muster/bin/muster-node", 0o755, "ELF")
	h.Write("/var/lib/muster/journal.ndjson", 0o600, "")
	h.Write("/var/lib/dpkg/status", 0o644, "changes with every package")
	h.Write("/var/log/syslog", 0o640, "grows")
	h.Write("/proc/net/ip_vs", 0o444, "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"+
		"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  0A600001:01BB rr\n  -> 0A4D000B:192B      Masq    1      7          2\n")
	if err := os.Symlink("/run/systemd/resolve/stub-resolv.conf", h.Host.Path("/etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	h.kernel.mount("/mnt/a b")
	h.tables = []string{"inet filter"}
	return h
}

func snapshot(h *host) []string {
	h.T.Helper()
	lines, err := agent.Snapshot(h.T.Context(), h.Host, h.kernel)
	if err != nil {
		h.T.Fatal(err)
	}
	return lines
}

func TestSnapshot(t *testing.T) {
	h := full(t)
	first := snapshot(h)
	golden.Equal(t, "snapshot.golden", []byte(strings.Join(first, "\n")+"\n"))
	h.Write("/var/log/syslog", 0o640, "has grown")
	h.Write("/var/lib/dpkg/status", 0o644, "has changed")
	h.Write("/proc/net/ip_vs", 0o444, strings.Replace(h.Read("/proc/net/ip_vs"), "7          2", "9          1", 1))
	if diff := agent.Difference(first, snapshot(h)); len(diff) > 0 {
		t.Errorf("a host that lives on differs: %q", diff)
	}
}

func TestSnapshotSeesChanges(t *testing.T) {
	cases := map[string]struct {
		change func(h *host)
		want   []string // the beginnings of the differing lines
	}{
		"bytes":      {func(h *host) { h.Write("/etc/hosts", 0o644, "x") }, []string{"- file /etc/hosts -rw-r--r-- ", "+ file /etc/hosts -rw-r--r-- "}},
		"mode":       {func(h *host) { h.Chmod("/etc/hosts", 0o600) }, []string{"- file /etc/hosts -rw-r--r-- ", "+ file /etc/hosts -rw------- "}},
		"new folder": {func(h *host) { h.Write("/var/lib/kubelet/x", 0o600, "") }, []string{"+ file /var/lib/kubelet drwxr-xr-x"}},
		"link gone":  {func(h *host) { h.Remove("/etc/resolv.conf") }, []string{"- file /etc/resolv.conf -> /run/systemd/resolve/stub-resolv.conf"}},
		"device":     {func(h *host) { h.kernel.links = append(h.kernel.links, "cni0") }, []string{"+ link cni0"}},
		"table": {func(h *host) { h.tables = append(h.tables, "ip nat") },
			[]string{"+ nft table ip nat: chain input {", "+ nft table ip nat: table ip nat {", "+ nft table ip nat: type filter hook input priority 0;"}},
		"real server": {func(h *host) { h.Write("/proc/net/ip_vs", 0o444, "TCP  0A600001:01BB rr\n") }, []string{"- ipvs -> 0A4D000B:192B Masq 1"}},
		"mount":       {func(h *host) { h.kernel.mount("/var/lib/kubelet") }, []string{"+ mount /var/lib/kubelet"}},
	}
	for name, c := range cases {
		h := full(t)
		before := snapshot(h)
		c.change(h)
		diff := agent.Difference(before, snapshot(h))
		same := len(diff) == len(c.want)
		for i := range diff {
			same = same && strings.HasPrefix(diff[i], c.want[i])
		}
		if !same {
			t.Errorf("%s: got %q, want %q", name, diff, c.want)
		}
	}
}

// A part that cannot be asked is not taken for an empty one.
func TestSnapshotCannotAsk(t *testing.T) {
	for name, trouble := range map[string]func(h *host){
		"kernel": func(h *host) { h.kernel.fail = errors.New("EPERM") },
		"nft":    func(h *host) { h.Exec.Fail = errors.New("exit 1") },
		"mounts": func(h *host) { h.Remove("/proc/self/mountinfo") },
	} {
		h := full(t)
		trouble(h)
		if lines, err := agent.Snapshot(t.Context(), h.Host, h.kernel); err == nil || lines != nil {
			t.Errorf("%s: %d lines, %v", name, len(lines), err)
		}
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ before, now, want []string }{
		{nil, nil, nil},
		{[]string{"a", "b"}, []string{"a", "b"}, nil},
		{[]string{"a", "b", "d"}, []string{"b", "c", "d"}, []string{"- a", "+ c"}},
		{nil, []string{"x"}, []string{"+ x"}},
	} {
		if got := agent.Difference(c.before, c.now); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q and %q: %q", c.before, c.now, got)
		}
	}
}

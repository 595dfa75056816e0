// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSysctls(t *testing.T) {
	list := []sysctl{{name: "net/a", value: "1"}, {name: "net/b", value: "0"}, {name: "net/c", value: "1"}, {name: "net/gone", value: "1", optional: true}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		between func(sysctls)
		want    string // after restoring
	}{
		{"as they were", func(sysctls) {}, "0 1 1"},
		{"set twice", func(s sysctls) { must(s.set(list)) }, "0 1 1"},
		{"somebody changed one since", func(s sysctls) { must(s.write("net/a", "7")) }, "7 1 1"},
		{"somebody changed one and it was set again", func(s sysctls) { must(s.write("net/b", "5")); must(s.set(list)) }, "0 1 1"},
		{"a module was unloaded", func(s sysctls) { must(os.Remove(filepath.Join(s.root, "net/a"))) }, "- 1 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sysctls{root: t.TempDir(), file: filepath.Join(t.TempDir(), "state", "sysctls.json")}
			if err := os.Mkdir(filepath.Join(s.root, "net"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"net/a": "0", "net/b": "1", "net/c": "1"} {
				if err := s.write(name, value); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.set(list); err != nil {
				t.Fatal(err)
			}
			if got := values(s); got != "1 0 1" {
				t.Fatalf("set to %q", got)
			}
			c.between(s)
			for range 2 {
				if err := s.restore(); err != nil {
					t.Fatal(err)
				}
				if got := values(s); got != c.want {
					t.Errorf("restored to %q, want %q", got, c.want)
				}
			}
			if _, err := os.Stat(filepath.Dir(s.file)); err == nil {
				t.Error("the state directory is still there")
			}
		})
	}
}

func TestSysctlsThatCannotBeSet(t *testing.T) {
	s := sysctls{root: t.TempDir(), file: filepath.Join(t.TempDir(), "sysctls.json")}
	if err := s.set([]sysctl{{name: "net/none", value: "1"}}); err == nil || !strings.Contains(err.Error(), "net/none") {
		t.Errorf("a kernel without the setting: %v", err)
	}
	if err := os.WriteFile(s.file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.restore(); err == nil || !strings.Contains(err.Error(), s.file) {
		t.Errorf("a broken state file: %v", err)
	}
}

// notes is timeouts in memory.
type notes map[string]string

func (n notes) read(name string) (string, error) {
	value, ok := n[name]
	if !ok {
		return "", fs.ErrNotExist
	}
	return value, nil
}

func (n notes) write(name, value string) error {
	n[name] = value
	return nil
}

// proc returns sysctls in a directory with the given values.
func proc(t *testing.T, values map[string]string) sysctls {
	t.Helper()
	s := sysctls{root: t.TempDir(), file: filepath.Join(t.TempDir(), "state", "sysctls.json"), timeouts: notes{}}
	for name, value := range values {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(s.root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := s.write(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestSettings(t *testing.T) {
	before := map[string]string{
		"net/netfilter/nf_conntrack_max": "1000", "net/netfilter/nf_conntrack_buckets": "90000",
		"net/netfilter/nf_conntrack_tcp_timeout_established": "432000", "net/netfilter/nf_conntrack_tcp_timeout_close_wait": "60",
		"net/netfilter/nf_conntrack_udp_timeout": "30", "net/netfilter/nf_conntrack_udp_timeout_stream": "120",
		"net/netfilter/nf_conntrack_tcp_be_liberal": "0", "net/ipv4/conf/all/arp_ignore": "0", "net/ipv4/conf/all/arp_announce": "0",
		timeoutTCP: "900", timeoutTCPFin: "120", timeoutUDP: "300",
	}
	s := proc(t, before)
	all := Settings{
		ConntrackMax: 131072, ConntrackEstablished: 24 * time.Hour, ConntrackCloseWait: time.Hour, ConntrackUDP: 1500 * time.Millisecond,
		ConntrackUDPStream: 3 * time.Second, ConntrackLiberal: true, IPVSTCP: time.Second, IPVSTCPFin: 2 * time.Second, IPVSUDP: 3 * time.Second, StrictARP: true,
	}
	want := map[string]string{
		"net/netfilter/nf_conntrack_max": "131072", "net/netfilter/nf_conntrack_buckets": "90000",
		"net/netfilter/nf_conntrack_tcp_timeout_established": "86400", "net/netfilter/nf_conntrack_tcp_timeout_close_wait": "3600",
		"net/netfilter/nf_conntrack_udp_timeout": "1", "net/netfilter/nf_conntrack_udp_timeout_stream": "3",
		"net/netfilter/nf_conntrack_tcp_be_liberal": "1", "net/ipv4/conf/all/arp_ignore": "1", "net/ipv4/conf/all/arp_announce": "2",
		timeoutTCP: "1", timeoutTCPFin: "2", timeoutUDP: "3",
	}
	same := func(what string, want map[string]string) {
		t.Helper()
		for name, value := range want {
			if got, err := s.read(name); err != nil || got != value {
				t.Errorf("%s: %s is %s, %v, want %s", what, name, got, err, value)
			}
		}
	}
	if err := s.set(Settings{}.list()); err != nil {
		t.Fatal(err)
	}
	same("nothing asked", before)
	if err := s.set(all.list()); err != nil {
		t.Fatal(err)
	}
	same("all asked", want)
	if err := s.restore(); err != nil {
		t.Fatal(err)
	}
	same("restored", before)
}

// TestSettingsThatFail shows that one setting the kernel does not have keeps
// no other from its value.
func TestSettingsThatFail(t *testing.T) {
	s := proc(t, map[string]string{"net/netfilter/nf_conntrack_udp_timeout": "30"})
	err := s.set(Settings{ConntrackCloseWait: time.Hour, ConntrackUDP: time.Minute, IPVSUDP: time.Minute}.list())
	for _, name := range []string{"close_wait", timeoutUDP} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
	if got, err := s.read("net/netfilter/nf_conntrack_udp_timeout"); got != "60" {
		t.Errorf("the setting that is there has %s, %v", got, err)
	}
}

func TestEstimation(t *testing.T) {
	if got := proc(t, map[string]string{"net/ipv4/vs/run_estimation": "1"}).estimation(); got != "0" {
		t.Errorf("a kernel with a timer: %s", got)
	}
	if got := proc(t, map[string]string{"net/ipv4/vs/est_nice": "0"}).estimation(); got != "1" {
		t.Errorf("a kernel with threads: %s", got)
	}
}

func values(s sysctls) string {
	var all []string
	for _, name := range []string{"net/a", "net/b", "net/c"} {
		value, err := s.read(name)
		if err != nil {
			value = "-"
		}
		all = append(all, value)
	}
	return strings.Join(all, " ")
}

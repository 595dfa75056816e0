// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/templates"
	buildversion "github.com/muster-project/muster/version"
)

func TestConflist(t *testing.T) {
	prefix := netip.MustParsePrefix
	cases := []struct {
		name, env string
		want      templates.CNIConflist
		err       string
	}{
		{"IPv4", "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n",
			templates.CNIConflist{Subnets: []netip.Prefix{prefix("10.244.1.0/24")}, MTU: 1450}, ""},
		{"both families", "FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1400",
			templates.CNIConflist{Subnets: []netip.Prefix{prefix("10.244.1.0/24"), prefix("fd00:0:0:1::/64")}, MTU: 1400}, ""},
		{"no MTU", "FLANNEL_SUBNET=10.244.1.1/24\n", templates.CNIConflist{Subnets: []netip.Prefix{prefix("10.244.1.0/24")}}, ""},
		{"empty", "", templates.CNIConflist{}, "no FLANNEL_SUBNET in it"},
		{"half written", "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUB", templates.CNIConflist{}, "no FLANNEL_SUBNET in it"},
		{"no prefix", "FLANNEL_SUBNET=10.244.1.1\n", templates.CNIConflist{}, "FLANNEL_SUBNET: "},
		{"MTU in words", "FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=big\n", templates.CNIConflist{}, "FLANNEL_MTU: "},
	}
	for _, c := range cases {
		got, err := conflist(c.env)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		case c.err == "" && (err != nil || !reflect.DeepEqual(got, c.want)):
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
}

func FuzzConflist(f *testing.F) {
	f.Add("FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n")
	f.Add("FLANNEL_IPV6_SUBNET=fd00::1/64\n=\n")
	f.Fuzz(func(t *testing.T, env string) {
		conf, err := conflist(env)
		if err == nil && len(conf.Subnets) == 0 {
			t.Errorf("%q gives a configuration without a subnet", env)
		}
		for _, s := range conf.Subnets {
			if s != s.Masked() {
				t.Errorf("%q gives the address %s for a subnet", env, s)
			}
		}
	})
}

func TestCNIConfig(t *testing.T) {
	dir := t.TempDir()
	env, out := filepath.Join(dir, "subnet.env"), filepath.Join(dir, "net.d", "10-muster.conflist")
	command := []string{"cni-config", "-subnet-env", env, "-out", out}
	if err := run(t.Context(), command, nil, nil); err == nil || !strings.Contains(err.Error(), env) {
		t.Errorf("without flannel's file: %v", err)
	}
	if err := os.WriteFile(env, []byte("FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_SUBNET=fd00::1/64\nFLANNEL_MTU=1450\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // flanneld restarts
		if err := run(t.Context(), command, nil, nil); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, "conflist.golden", got)
	}
	if err := os.WriteFile(env, []byte("FLANNEL_SUBNET=x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), command, nil, nil); err == nil || !strings.HasPrefix(err.Error(), env+": FLANNEL_SUBNET: ") {
		t.Errorf("broken file: %v", err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "conflist.golden", got) // the old one stays
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, nil, &out); err != nil || out.String() != buildversion.Version+"\n" {
		t.Errorf("version: %q, %v", out.String(), err)
	}
	for _, args := range [][]string{nil, {"dance"}, {"-h"}} {
		err := run(t.Context(), args, nil, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "usage: muster-node COMMAND\n  serve ") || strings.Count(err.Error(), "\n") != len(commands) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, command := range []string{"cni-config", "approve"} {
		if err := run(t.Context(), []string{command, "-no-such-flag"}, nil, &out); err == nil {
			t.Errorf("%s takes any flag", command)
		}
	}
}

// serve speaks the protocol over its two streams, and ends when the other end
// hangs up. It only answers here: nothing on this machine is asked or changed.
func TestServe(t *testing.T) {
	if os.Geteuid() != 0 {
		if err := run(t.Context(), []string{"serve"}, nil, nil); err == nil || !strings.Contains(err.Error(), "needs root") {
			t.Errorf("without root: %v", err)
		}
		return
	}
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), []string{"serve"}, inRead, outWrite) }()
	session, err := protocol.Client(pipes{outRead, inWrite})
	if err != nil {
		t.Fatal(err)
	}
	hello, err := protocol.Call[protocol.Hello](t.Context(), session, protocol.Request{Op: protocol.OpHello})
	if err != nil || hello != (protocol.Hello{Protocol: protocol.Version, Version: buildversion.Version, Root: true}) {
		t.Errorf("got %+v, %v", hello, err)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after the other end hung up: %v", err)
	}
}

// pipes is the other end of serve's streams.
type pipes struct {
	*io.PipeReader
	*io.PipeWriter
}

func (p pipes) Close() error { return errors.Join(p.PipeReader.Close(), p.PipeWriter.Close()) }

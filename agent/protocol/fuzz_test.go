// SPDX-License-Identifier: Apache-2.0

package protocol_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// full is a request with every field set.
func full() protocol.Request {
	certificate := pki.APIServer([]string{"cp-1"}, []netip.Addr{netip.MustParseAddr("10.0.0.11")})
	return protocol.Request{
		Op: protocol.OpApply, Operator: "anna@desk", Check: true, Name: "etcd", Data: []byte{0, 1, 255},
		Steps:       step.List{step.File{Path: "/etc/x", Mode: 0o644, Data: "y"}, step.Unit{Name: "a.service", Inputs: []string{"/etc/x"}}},
		Certificate: &certificate, As: &step.Credentials{Server: "https://127.0.0.1:6443", Cert: "/c"},
	}
}

func TestRequestTravelsWhole(t *testing.T) {
	var got protocol.Request
	client, _, _ := pair(t, none(), ops(protocol.OpApply, func(_ context.Context, r protocol.Request, w *protocol.Writer) error {
		got = r
		return w.Value(protocol.Ack{})
	}))
	if _, err := protocol.Call[protocol.Ack](t.Context(), client, full()); err != nil {
		t.Fatal(err)
	}
	if want := full(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Whatever a caller sends, it gets one answer or the end of its call, and the
// next caller is served.
func FuzzRequest(f *testing.F) {
	whole, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(whole), string(whole[:len(whole)/2]), `{}`, `null`, `[]`, `{"Op":7}`, `{"Steps":[{"kind":"nope"}]}`,
		`{"Steps":[{"kind":"file","step":3}]}`, "", "\n", `{"Op":"hello"}{"Op":"hello"}`, strings.Repeat("[", 20000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		a, b := net.Pipe()
		server, err := protocol.Server(b)
		if err != nil {
			t.Fatal(err)
		}
		node := ops(protocol.OpHello, func(_ context.Context, _ protocol.Request, w *protocol.Writer) error {
			return w.Value(protocol.Hello{Protocol: protocol.Version})
		})
		go server.Serve(context.Background(), node)
		config := yamux.DefaultConfig()
		config.LogOutput = io.Discard
		caller, err := yamux.Client(a, config)
		if err != nil {
			t.Fatal(err)
		}
		defer caller.Close()
		answered(t, caller, sent)
		if got := answered(t, caller, []byte(`{"Op":"hello"}`)); !strings.Contains(got, `"Protocol"`) {
			t.Errorf("after %q a hello is answered by %q", sent, got)
		}
	})
}

func answered(t *testing.T, caller *yamux.Session, sent []byte) string {
	t.Helper()
	stream, err := caller.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil { // half a request must not be waited for
		t.Fatal(err)
	}
	got, err := io.ReadAll(stream)
	if err != nil {
		t.Fatalf("%q: no end of the answer: %v", sent, err)
	}
	return string(got)
}

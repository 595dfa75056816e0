// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

// muster is the operator's end of a session, with the bundle and CAs of a
// world.
type muster struct{ operator *steptest.Operator }

func (m muster) Handle(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
	switch r.Op {
	case protocol.OpBlob:
		blob, err := m.operator.Blob(ctx, r.Name)
		if err != nil {
			return err
		}
		defer blob.Close()
		return w.Bytes(blob)
	case protocol.OpSign:
		cert, err := m.operator.Sign(ctx, *r.Certificate, r.Data)
		return errors.Join(err, w.Value(protocol.Data{Data: cert}))
	case protocol.OpAuthority:
		cert, err := m.operator.Authority(ctx, pki.CA(r.Name))
		return errors.Join(err, w.Value(protocol.Data{Data: cert}))
	case protocol.OpToken:
		token, err := m.operator.Token(ctx, r.Name)
		return errors.Join(err, w.Value(protocol.Data{Data: []byte(token)}))
	default:
		return errors.New("muster does not answer " + string(r.Op))
	}
}

// remote makes the host's operator the other end of a session; cut ends it.
func (h *host) remote() (cut func()) {
	h.T.Helper()
	a, b := net.Pipe()
	client, err := protocol.Client(a)
	if err != nil {
		h.T.Fatal(err)
	}
	server, err := protocol.Server(b)
	if err != nil {
		h.T.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); client.Serve(context.Background(), muster{h.Operator}) }()
	h.T.Cleanup(func() { client.Close(); server.Close(); <-served })
	h.Host.Operator = agent.Operator{Session: server}
	return func() { a.Close(); b.Close() }
}

// Everything that a step asks its operator for goes over the session.
func TestOperatorOverSession(t *testing.T) {
	h := newHost(t)
	h.remote()
	r := pki.Scheduler()
	ca := agent.PKIDir + "/ca.crt"
	h.mustApply(
		step.Install{Path: "/opt/muster/bin/app", Mode: 0o755, Blob: h.Operator.AddBlob(strings.Repeat("program ", 100_000))},
		step.Trust{CA: pki.Kubernetes, Path: ca},
		step.Certificate{Request: r, CertPath: agent.PKIDir + "/" + r.CertFile(), KeyPath: agent.PKIDir + "/" + r.KeyFile(), CAPath: ca},
		step.Bootstrap{Node: "w-1", Server: "https://10.0.0.11:6443", CAPath: ca, Path: "/etc/kubernetes/bootstrap.conf", Config: "/etc/kubernetes/kubelet.conf"},
	)
	if !strings.Contains(h.Read("/etc/kubernetes/bootstrap.conf"), h.Operator.Tokens[0]) {
		t.Error("the token got lost")
	}
}

// A blob that breaks off at the operator's end, or whose session is gone, is
// an error that says so; the old program stays.
func TestOperatorBreaksOff(t *testing.T) {
	h := newHost(t)
	cut := h.remote()
	h.Write("/opt/muster/bin/app", 0o755, "the old one")
	install := step.Install{Path: "/opt/muster/bin/app", Mode: 0o755, Blob: h.Operator.AddBlob("the new one")}
	h.Operator.CutBlob = 3
	if events, err := h.apply(install); err == nil || !strings.Contains(events[0].Cause, steptest.ErrCut.Error()) {
		t.Errorf("got %+v, %v", events, err)
	}
	cut()
	if events, err := h.apply(install); err == nil || !strings.Contains(events[0].Cause, "the connection ") {
		t.Errorf("got %+v, %v", events, err)
	}
	if got := h.Read("/opt/muster/bin/app"); got != "the old one" {
		t.Errorf("the program is %q", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// dial drives the host's agent over a session, as muster does.
func (h *host) dial() *protocol.Session {
	h.T.Helper()
	a, b := net.Pipe()
	server, err := protocol.Server(b)
	if err != nil {
		h.T.Fatal(err)
	}
	client, err := protocol.Client(a)
	if err != nil {
		h.T.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(context.Background(), h.agent)
		if err := h.agent.Close(); err != nil {
			h.T.Error(err)
		}
	}()
	h.T.Cleanup(func() { client.Close(); <-served })
	return client
}

func TestCalls(t *testing.T) {
	h := newHost(t)
	s := h.dial()
	hello, err := protocol.Call[protocol.Hello](t.Context(), s, protocol.Request{Op: protocol.OpHello})
	if err != nil || hello != (protocol.Hello{Protocol: protocol.Version, Version: "v0", Root: os.Geteuid() == 0}) {
		t.Errorf("hello: %+v, %v", hello, err)
	}
	h.Write("/proc/sys/kernel/hostname", 0o644, "w-1\n")
	found, err := protocol.Call[facts.Host](t.Context(), s, protocol.Request{Op: protocol.OpFacts})
	if err != nil || found.Hostname != "w-1" {
		t.Errorf("facts: %+v, %v", found, err)
	}
	var events []protocol.Event
	each := func(e protocol.Event) { events = append(events, e) }
	if err := protocol.Stream(t.Context(), s, protocol.Request{Op: protocol.OpApply, Steps: step.List{wrong}}, each); err != nil || len(events) != 2 {
		t.Errorf("apply: %+v, %v", events, err)
	}
	lines, err := protocol.Call[[]string](t.Context(), s, protocol.Request{Op: protocol.OpSnapshot})
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "file /etc/wrong -rw-r--r--") {
		t.Errorf("snapshot: %q, %v", lines, err)
	}
	if err := protocol.Stream(t.Context(), s, protocol.Request{Op: protocol.OpReset}, each); err != nil || h.Exists(wrong.Path) {
		t.Errorf("reset: %v", err)
	}
	if _, err := protocol.Call[protocol.Ack](t.Context(), s, protocol.Request{Op: "dance"}); err == nil || err.Error() != `no such call "dance"` {
		t.Errorf("unknown call: %v", err)
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run/lock")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first, err := agent.Acquire(path, "anna@desk", at)
	if err != nil {
		t.Fatal(err)
	}
	var held *agent.HeldError
	if _, err := agent.Acquire(path, "bert@train", at); !errors.As(err, &held) || !strings.HasPrefix(held.Holder, "anna@desk since 2026-03-01T12:00:00Z (muster-node, pid ") {
		t.Errorf("got %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := agent.Acquire(path, "b", at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Acquire(path, "c", at); !errors.As(err, &held) || !strings.HasPrefix(held.Holder, "b since ") || strings.Contains(held.Holder, "anna") {
		t.Errorf("got %v", err)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockCall(t *testing.T) {
	h := newHost(t)
	s := h.dial()
	for range 2 { // the same session asks again
		if _, err := protocol.Call[protocol.Ack](t.Context(), s, protocol.Request{Op: protocol.OpLock, Operator: "anna"}); err != nil {
			t.Fatal(err)
		}
	}
	other := &host{World: h.World, kernel: h.kernel}
	other.open()
	again := other.dial()
	// A moment later the first session ends: the second has waited for it.
	time.AfterFunc(200*time.Millisecond, func() { s.Close() })
	if _, err := protocol.Call[protocol.Ack](t.Context(), again, protocol.Request{Op: protocol.OpLock, Operator: "bert"}); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(h.Read("/run/muster/lock"), "bert since ") {
		t.Error(h.Read("/run/muster/lock"))
	}
}

func TestSign(t *testing.T) {
	h := newHost(t)
	ca := step.Authority{CA: pki.Kubernetes, CertPath: agent.PKIDir + "/ca.crt", KeyPath: agent.PKIDir + "/ca.key"}
	h.mustApply(ca)
	s := h.dial()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r := pki.Scheduler()
	csr, err := pki.CSR(key, r)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(r *pki.Request, csr []byte) ([]byte, error) {
		got, err := protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpSign, Certificate: r, Data: csr})
		return got.Data, err
	}
	cert, err := sign(&r, csr)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpAuthority, Name: "kubernetes"})
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.Matches(cert, text, authority.Data, r, h.Clock); err != nil {
		t.Error(err)
	}
	stranger, other, more := r, r, pki.ControllerManager()
	stranger.CA, other.CA = "../../shadow", pki.Etcd
	for _, c := range []struct {
		request *pki.Request
		csr     []byte
		want    string
	}{
		{nil, csr, "sign: no request"},
		{&stranger, csr, `no CA is called "../../shadow"`},
		{&other, csr, "the etcd CA's certificate: "},
		{&more, csr, `asks for common name "system:kube-scheduler"`},
		{&r, []byte("x"), "no PEM block"},
	} {
		if cert, err := sign(c.request, c.csr); err == nil || !strings.Contains(err.Error(), c.want) || cert != nil {
			t.Errorf("got %s, %v; want %q", cert, err, c.want)
		}
	}
}

func TestToken(t *testing.T) {
	h := newHost(t)
	s := h.dial()
	as := step.Credentials{Server: "https://127.0.0.1:6443"}
	got, err := protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpToken, Name: "w-1", As: &as})
	if err != nil {
		t.Fatal(err)
	}
	token := string(got.Data)
	// k8s.io/cluster-bootstrap/token/api: BootstrapTokenPattern
	if !regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`).MatchString(token) {
		t.Fatalf("token %q", token)
	}
	id, secret, _ := strings.Cut(token, ".")
	object := h.API.Object("/api/v1/namespaces/kube-system/secrets/bootstrap-token-" + id)
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"bootstrap-token-` + id + `","namespace":"kube-system"},"stringData":{` +
		`"auth-extra-groups":"system:bootstrappers:muster","description":"joins node w-1","expiration":"2026-03-01T12:15:00Z",` +
		`"token-id":"` + id + `","token-secret":"` + secret + `","usage-bootstrap-authentication":"true"},"type":"bootstrap.kubernetes.io/token"}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	again, err := protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpToken, Name: "w-1", As: &as})
	if err != nil || string(again.Data) == token {
		t.Errorf("the second token is the first: %v", err)
	}
	if _, err := protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpToken, Name: "w-1"}); err == nil {
		t.Error("a token without credentials")
	}
	h.API.Fail = &step.StatusError{Code: 503, Message: "starting"}
	_, err = protocol.Call[protocol.Data](t.Context(), s, protocol.Request{Op: protocol.OpToken, Name: "w-1", As: &as})
	if err == nil || err.Error() != "create bootstrap token: API server: 503: starting" {
		t.Errorf("got %v", err)
	}
}

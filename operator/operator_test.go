// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/remote"
)

// apply has steps done on a host and returns what became of each.
func (f *fleet) apply(t *testing.T, host string, steps ...step.Step) []protocol.State {
	t.Helper()
	c, err := f.Host(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	var states []protocol.State
	err = c.Apply(t.Context(), steps, false, func(e protocol.Event) {
		if e.State == protocol.Failed {
			t.Errorf("%s: %s: %s", host, e.Text, e.Cause)
		}
		if e.State != protocol.Started {
			states = append(states, e.State)
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	return states
}

func authority() step.Authority {
	return step.Authority{CA: pki.Kubernetes, CertPath: phases.PKI(pki.Kubernetes.CertFile()), KeyPath: phases.PKI(pki.Kubernetes.KeyFile())}
}

func (f *fleet) install(t *testing.T) step.Install {
	t.Helper()
	a, err := f.Bundle.Lookup("runc")
	if err != nil {
		t.Fatal(err)
	}
	blob := a.Files[0]
	return step.Install{Path: "/opt/muster/bin/runc", Mode: 0o755, Blob: step.Blob{
		SHA256: blob.SHA256, Size: blob.Size, Compressed: blob.Blob, Transfer: blob.BlobSize,
	}}
}

// A worker gets a certificate that the control-plane host signed, and a
// program of the bundle; the second time everything is right.
func TestHostsGetWhatTheirStepsNeed(t *testing.T) {
	f := newFleet(t)
	f.apply(t, "cp-1", authority())
	steps := []step.Step{
		step.Trust{CA: pki.Kubernetes, Path: phases.PKI(pki.Kubernetes.CertFile())}, phases.Leaf(pki.Proxier("w-1"), ""), f.install(t),
	}
	if got := f.apply(t, "w-1", steps...); !slices.Equal(got, []protocol.State{protocol.Changed, protocol.Changed, protocol.Changed}) {
		t.Errorf("first time: %v", got)
	}
	sent := f.Sent()
	if sent != f.install(t).Blob.Transfer {
		t.Errorf("%d bytes sent, want those of one blob, %d", sent, f.install(t).Blob.Transfer)
	}
	if got := f.apply(t, "w-1", steps...); !slices.Equal(got, []protocol.State{protocol.Right, protocol.Right, protocol.Right}) {
		t.Errorf("second time: %v", got)
	}
	if f.Sent() != sent {
		t.Errorf("%d bytes sent for nothing", f.Sent()-sent)
	}
	if asked := f.machines["w-2"].Commands(); len(asked) != 0 {
		t.Errorf("w-2 was asked for %q", asked)
	}
}

// A host that lies gains nothing: what it may ask for is what its own steps
// are about.
func TestHostsGetNothingElse(t *testing.T) {
	f := newFleet(t)
	f.apply(t, "cp-1", authority())
	own := pki.Proxier("w-1")
	f.apply(t, "w-1", phases.Leaf(own, ""), step.Trust{CA: pki.Kubernetes, Path: phases.PKI(pki.Kubernetes.CertFile())})
	f.apply(t, "w-2", f.install(t))
	liar := agent.Operator{Session: <-f.machines["w-1"].sessions}

	wider := own
	wider.DNSNames = []string{"kubernetes.default"}
	wider.Usages = append(slices.Clone(own.Usages), pki.ServerAuth)
	masters := own
	masters.Organization = []string{pki.GroupMasters}
	longer := own
	longer.Validity *= 10
	for what, r := range map[string]pki.Request{
		"another's": pki.Proxier("w-2"), "the admin's": pki.SuperAdmin(), "more names": wider, "more rights": masters, "a longer life": longer,
	} {
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.CSR(key, r)
		if err != nil {
			t.Fatal(err)
		}
		if cert, err := liar.Sign(t.Context(), r, csr); err == nil || cert != nil || !strings.Contains(err.Error(), "w-1 asks for a certificate that the plan does not have for it") {
			t.Errorf("%s certificate: %v", what, err)
		}
	}
	if _, err := liar.Blob(t.Context(), f.install(t).Blob.Compressed); err == nil || !strings.Contains(err.Error(), "w-1 asks for blob") {
		t.Errorf("a blob that another host has a step for: %v", err)
	}
	if _, err := liar.Blob(t.Context(), "../../index.json"); err == nil {
		t.Error("a path was taken for a blob")
	}
	if token, err := liar.Token(t.Context(), "w-2"); err == nil || token != "" || !strings.Contains(err.Error(), "w-1 asks for a token for w-2") {
		t.Errorf("another's token: %q, %v", token, err)
	}
	if _, err := protocol.Call[protocol.Ack](t.Context(), liar.Session, protocol.Request{Op: protocol.OpReset}); err == nil {
		t.Error("a host told the operator to reset")
	}
	if calls := f.machines["cp-1"].api.calls; len(calls) != 0 {
		t.Errorf("the API was asked: %v", calls)
	}
}

// A token is made on the control-plane host, for the node that asked.
func TestToken(t *testing.T) {
	f := newFleet(t)
	w := f.machines["w-1"]
	c, err := f.Host(t.Context(), "w-1")
	if err != nil {
		t.Fatal(err)
	}
	// The step fails for want of a CA file, after it has its token.
	err = c.Apply(t.Context(), step.List{step.Bootstrap{Node: "w-1", CAPath: "/nowhere", Path: "/x", Config: "/y"}}, false, func(protocol.Event) {})
	if err == nil {
		t.Error("a bootstrap without a CA went well")
	}

	token, err := agent.Operator{Session: <-w.sessions}.Token(t.Context(), "w-1")
	if err != nil || len(token) != len("abcdef.0123456789abcdef") {
		t.Errorf("token %q, %v", token, err)
	}
	calls := f.machines["cp-1"].api.calls
	if len(calls) == 0 || !strings.Contains(calls[0], "joins node w-1") || !strings.HasPrefix(calls[0], phases.PKI("super-admin.crt")+" POST /api/v1/namespaces/kube-system/secrets ") {
		t.Errorf("the API was asked: %v", calls)
	}
	if len(w.api.calls) != 0 {
		t.Errorf("the worker asked the API itself: %v", w.api.calls)
	}
}

// However many ask for a host, it is entered once.
func TestOneConnectionPerHost(t *testing.T) {
	f := newFleet(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := f.Host(t.Context(), "w-1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if asked := f.machines["w-1"].Commands(); len(asked) != 2 {
		t.Errorf("asked for %q, want the sum of muster-node and muster-node once", asked)
	}
}

func TestOneHostAtATime(t *testing.T) {
	f := newFleet(t)
	f.AtOnce = 1
	if err := f.Connect(t.Context(), []string{"cp-1", "w-1", "w-2"}); err != nil {
		t.Error(err)
	}
}

// Two operators: the second is told who is at work.
func TestLock(t *testing.T) {
	f := newFleet(t)
	if _, err := f.Host(t.Context(), "w-1"); err != nil {
		t.Fatal(err)
	}
	second := f.another(t, f.Inventory, f.Bundle)
	if _, err := second.Host(t.Context(), "w-1"); err == nil || !strings.Contains(err.Error(), "locked by "+operator.Name()) {
		t.Errorf("a second operator: %v", err)
	}
	looking := f.another(t, f.Inventory, f.Bundle)
	looking.Locked = false
	if _, err := looking.Host(t.Context(), "w-1"); err != nil {
		t.Errorf("one who only looks: %v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	f := newFleet(t)
	f.machines["w-1"].handler = handler(func(_ protocol.Request, w *protocol.Writer) error {
		return w.Value(protocol.Hello{Protocol: protocol.Version + 1})
	})
	if _, err := f.Host(t.Context(), "w-1"); err == nil || !strings.Contains(err.Error(), "use the bundle that came with this muster") {
		t.Errorf("%v", err)
	}
}

// A host with another muster-node gets ours before anything is started. This
// one takes no files, so it stays at that.
func TestOtherNodeIsReplaced(t *testing.T) {
	f := newFleet(t)
	f.machines["w-1"].nodeSum = strings.Repeat("0", 64)
	_, err := f.Host(t.Context(), "w-1")
	if err == nil || !strings.Contains(err.Error(), "bring muster-node: ") {
		t.Errorf("%v", err)
	}
	if asked := f.machines["w-1"].Commands(); slices.ContainsFunc(asked, func(line string) bool { return strings.HasSuffix(line, " serve") }) {
		t.Errorf("the other one was started: %q", asked)
	}
}

// A muster-node that ends at once says why.
func TestNodeThatEnds(t *testing.T) {
	f := newFleet(t)
	f.machines["w-1"].complaint = "muster-node: exec format error"
	_, err := f.Host(t.Context(), "w-1")
	var exit *remote.ExitError
	if !errors.As(err, &exit) || exit.Code != 1 || !strings.Contains(err.Error(), "start muster-node: ") || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("%v", err)
	}
}

func TestRun(t *testing.T) {
	f := newFleet(t)
	out, err := f.Run(t.Context(), "w-1", "systemctl", "is-active", "etcd.service")
	var exit *remote.ExitError
	if string(out) != "inactive\n" || !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("%q, %v", out, err)
	}
	if asked := f.machines["w-1"].Commands(); len(asked) != 1 {
		t.Errorf("asked for more: %q", asked)
	}
}

func TestUnknownHost(t *testing.T) {
	f := newFleet(t)
	if _, err := f.Host(t.Context(), "w-9"); err == nil || !strings.Contains(err.Error(), "no host w-9") {
		t.Errorf("%v", err)
	}
}

// BenchmarkThousandHosts asks a thousand hosts for facts, login included. Both
// ends of every connection are in this process.
func BenchmarkThousandHosts(b *testing.B) {
	names := []string{"cp-1"}
	for i := 1; i < 1000; i++ {
		names = append(names, fmt.Sprintf("w-%d", i))
	}
	f := fleetOf(b, names...)
	for _, m := range f.machines {
		m.sessions = make(chan *protocol.Session, 1000)
		m.handler = handler(func(r protocol.Request, w *protocol.Writer) error {
			if r.Op == protocol.OpFacts {
				return w.Value(facts.Host{Hostname: "here", Time: time.Now()})
			}
			return w.Value(protocol.Hello{Protocol: protocol.Version})
		})
	}
	for b.Loop() {
		o := f.another(b, f.Inventory, f.Bundle)
		if found, err := o.Facts(b.Context(), names); err != nil || len(found) != len(names) {
			b.Fatalf("%d hosts answered: %v", len(found), err)
		}
		if err := o.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

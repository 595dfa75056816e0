// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/remote/ssh"
)

// breakIn makes w-1 unreachable and w-2 refuse the login.
func (f *fleet) breakIn(t *testing.T) {
	t.Helper()
	f.machines["w-1"].Close()
	for i := range f.Inventory.Hosts {
		if f.Inventory.Hosts[i].Name == "w-2" {
			f.Inventory.Hosts[i].SSH.Keys = nil
		}
	}
}

// Each host that cannot be entered is named, and no host is touched.
func TestErrorsOfSeveralHosts(t *testing.T) {
	names := []string{"cp-1", "w-1", "w-2", "w-3"}
	for what, connect := range map[string]func(*fleet, context.Context, []string) error{
		"Reach":   func(f *fleet, ctx context.Context, names []string) error { return f.Reach(ctx, names) },
		"Connect": func(f *fleet, ctx context.Context, names []string) error { return f.Connect(ctx, names) },
	} {
		f := newFleet(t)
		f.breakIn(t)
		err := connect(f, t.Context(), names)
		var joined interface{ Unwrap() []error }
		if !errors.As(err, &joined) || len(joined.Unwrap()) != 3 {
			t.Fatalf("%s: want three errors in %v", what, err)
		}
		var hosts []string
		for _, e := range joined.Unwrap() {
			var h *operator.HostError
			if !errors.As(e, &h) {
				t.Fatalf("%s: %v does not name its host", what, e)
			}
			hosts = append(hosts, h.Host)
		}
		var unreachable *ssh.UnreachableError
		var auth *ssh.AuthError
		if !slices.Equal(hosts, names[1:]) || !errors.As(err, &unreachable) || !errors.As(err, &auth) {
			t.Errorf("%s: %v: %v", what, hosts, err)
		}
		for _, line := range f.machines["cp-1"].Commands() {
			if !strings.HasPrefix(line, "sha256sum ") {
				t.Errorf("%s: cp-1 was asked for %q", what, line)
			}
		}
	}
}

func TestFactsOfThoseWhoAnswer(t *testing.T) {
	f := newFleet(t)
	f.breakIn(t)
	ahead := time.Hour
	f.machines["cp-1"].handler = handler(func(r protocol.Request, w *protocol.Writer) error {
		if r.Op == protocol.OpFacts {
			return w.Value(facts.Host{Hostname: "here", Time: time.Now().Add(ahead)})
		}
		return w.Value(protocol.Hello{Protocol: protocol.Version})
	})
	found, err := f.Facts(t.Context(), []string{"cp-1", "w-1", "w-2"})
	if len(found) != 1 || found["cp-1"].Hostname != "here" {
		t.Errorf("facts %+v", found)
	}
	if off := found["cp-1"].Offset - ahead; off.Abs() > 10*time.Second {
		t.Errorf("clock %s ahead, want %s", found["cp-1"].Offset, ahead)
	}
	var h *operator.HostError
	if !errors.As(err, &h) || h.Host != "w-1" || !strings.Contains(err.Error(), "\nw-2: ") {
		t.Errorf("%v", err)
	}
}

type handler func(protocol.Request, *protocol.Writer) error

func (h handler) Handle(_ context.Context, r protocol.Request, w *protocol.Writer) error {
	return h(r, w)
}

// A host that stands still does not hold up a Ctrl-C.
func TestCancel(t *testing.T) {
	f := newFleet(t)
	f.machines["w-1"].Freeze()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("enough"))
	defer cancel()
	start := time.Now()
	err := f.Connect(ctx, []string{"w-1"})
	if took := time.Since(start); err == nil || took > 5*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
}

// A host whose connection is lost while it works: the error says so.
func TestLostHost(t *testing.T) {
	f := newFleet(t)
	m := f.machines["w-1"]
	m.handler = handler(func(r protocol.Request, w *protocol.Writer) error {
		if r.Op == protocol.OpApply {
			m.Cut()
			return io.ErrUnexpectedEOF
		}
		return w.Value(protocol.Hello{Protocol: protocol.Version})
	})
	c, err := f.Host(t.Context(), "w-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), step.List{f.install(t)}, false, func(protocol.Event) {}); err == nil {
		t.Error("nobody noticed")
	} else if text := err.Error(); !strings.Contains(text, "connection") {
		t.Errorf("%v", err)
	}
	if err := f.Close(); err != nil {
		t.Logf("closing: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package approver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-project/muster/agent/approver"
	"github.com/muster-project/muster/plan/step"
)

const csrs = "/apis/certificates.k8s.io/v1/certificatesigningrequests"

// server is the part of an API server that the approver talks to, in memory.
type server struct {
	t       *testing.T
	mu      sync.Mutex
	hosts   map[string]string // nil: the ConfigMap is not there yet
	objects map[string]map[string]any
	order   []string // names, by resource version
	watches []*io.PipeWriter
	lists   int
	fail    error
}

func newServer(t *testing.T) *server {
	return &server{t: t, hosts: joined(), objects: map[string]map[string]any{}}
}

// submit is a kubelet that asks.
func (s *server) submit(name string, request []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := map[string]any{
		"metadata": map[string]any{"name": name, "resourceVersion": fmt.Sprint(len(s.order) + 1), "uid": "u-" + name},
		"spec":     map[string]any{"signerName": approver.Signer, "username": user, "groups": nodes, "usages": serving, "request": request},
		"status":   map[string]any{},
	}
	s.objects[name] = object
	s.order = append(s.order, name)
	for _, w := range s.watches {
		s.send(w, "MODIFIED", object) // other events are none of the approver's business
		s.send(w, "ADDED", object)
	}
}

func (s *server) send(w *io.PipeWriter, kind string, object map[string]any) {
	line, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		s.t.Error(err)
	}
	go func() { _, _ = w.Write(line) }() // the reader may be gone
}

// endWatches ends the watches as a server does after its timeout, or by err.
func (s *server) endWatches(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watches {
		_ = w.CloseWithError(err)
	}
	s.watches = nil
}

func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// approved reports whether a request was approved, and how often.
func (s *server) approved(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.objects[name]["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	return len(conditions) == 1 && conditions[0].(map[string]any)["type"] == "Approved"
}

func (s *server) Call(_ context.Context, _ step.Credentials, c step.Call) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := url.Parse(c.Path)
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(target.Path, csrs+"/")
	switch {
	case s.fail != nil:
		return nil, s.fail
	case c.Method == http.MethodGet && target.Path == approver.HostsPath:
		if s.hosts == nil {
			return nil, &step.StatusError{Code: 404, Message: "muster-hosts not found"}
		}
		return json.Marshal(map[string]any{"data": s.hosts})
	case c.Method == http.MethodGet && target.Path == csrs:
		return s.list(target.Query())
	case c.Method == http.MethodGet && s.objects[name] != nil:
		return json.Marshal(s.objects[name])
	case c.Method == http.MethodPut && strings.HasSuffix(name, "/approval"):
		return s.update(strings.TrimSuffix(name, "/approval"), c.Body)
	}
	s.t.Errorf("the API does not know %s %s", c.Method, c.Path)
	return nil, &step.StatusError{Code: 404}
}

func (s *server) list(query url.Values) ([]byte, error) {
	s.lists++
	if got := query.Get("fieldSelector"); got != "spec.signerName="+approver.Signer {
		s.t.Errorf("listed with the selector %q", got)
	}
	items := []any{}
	for _, name := range s.order {
		items = append(items, s.objects[name])
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(len(s.order))}, "items": items})
}

// update takes conditions alone, and only of the object as it is.
func (s *server) update(name string, body []byte) ([]byte, error) {
	var sent map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		return nil, err
	}
	have, err := json.Marshal(s.objects[name]["spec"])
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(sent["spec"])
	if err != nil || string(spec) != string(have) {
		return nil, &step.StatusError{Code: 422, Message: "spec is immutable"}
	}
	s.objects[name]["status"] = sent["status"]
	return body, nil
}

func (s *server) Stream(ctx context.Context, _ step.Credentials, c step.Call) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	target, err := url.Parse(c.Path)
	if err != nil {
		return nil, err
	}
	if target.Query().Get("watch") != "1" {
		s.t.Errorf("streams %s", c.Path)
	}
	r, w := io.Pipe()
	s.watches = append(s.watches, w)
	context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
	since := 0
	if _, err := fmt.Sscan(target.Query().Get("resourceVersion"), &since); err != nil {
		s.t.Errorf("%s: %v", c.Path, err)
	}
	for _, name := range s.order[since:] {
		s.send(w, "ADDED", s.objects[name])
	}
	return r, nil
}

// log keeps what the approver says.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// count is how many lines hold the text.
func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(l.lines), func(line string) bool { return !strings.Contains(line, text) }))
}

// start runs an approver until the test ends.
func start(t *testing.T, s *server) *log {
	t.Helper()
	said := &log{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		a := approver.Approver{API: s, Logf: said.printf, Retry: 5 * time.Millisecond}
		ended <- a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("it does not end with its context")
		}
	})
	return said
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (s *server) watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watches) > 0
}

func (s *server) listed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

func TestRunApproves(t *testing.T) {
	s := newServer(t)
	s.submit("before", asks(t, nil))
	said := start(t, s)
	eventually(t, "a request from before the start", func() bool { return s.approved("before") })
	eventually(t, "the watch", s.watched)
	s.submit("watched", asks(t, nil))
	eventually(t, "a request that comes later", func() bool { return s.approved("watched") })
	s.endWatches(io.EOF)
	eventually(t, "the next watch", s.watched)
	s.submit("after", asks(t, nil))
	eventually(t, "a request after the watch ended", func() bool { return s.approved("after") })
	if said.count("approved ") != 3 || said.count("looking again") != 0 {
		t.Errorf("it said %q", said.lines)
	}
}

// A wrong request stays pending and is spoken of once; right ones beside it
// are approved, whether they came before or after.
func TestRunLeavesWrongOnesPending(t *testing.T) {
	s := newServer(t)
	wrong := []byte("not a request")
	s.submit("wrong", wrong)
	s.submit("right", asks(t, nil))
	said := start(t, s)
	eventually(t, "the right request", func() bool { return s.approved("right") })
	s.submit("later", asks(t, nil))
	eventually(t, "a later request", func() bool { return s.approved("later") })
	before := s.listed()
	eventually(t, "more rounds", func() bool { return s.listed() > before+5 })
	if s.approved("wrong") || said.count("request wrong of system:node:w-1 is left pending: it is not a PEM") != 1 {
		t.Errorf("it said %q", said.lines)
	}
}

// What was refused is looked at again: a node may join a moment later than its
// kubelet asks.
func TestRunWaitsForHosts(t *testing.T) {
	s := newServer(t)
	s.hosts = nil
	s.submit("early", asks(t, nil))
	said := start(t, s)
	eventually(t, "a complaint", func() bool { return said.count("read the hosts' addresses: API server: 404") > 0 })
	s.set(func() { s.hosts = map[string]string{} })
	eventually(t, "another complaint", func() bool { return said.count("muster has not joined a node w-1") == 1 })
	s.set(func() { s.hosts = joined() })
	eventually(t, "the approval", func() bool { return s.approved("early") })
}

// Requests that are somebody else's, or settled, are left alone.
func TestRunLeavesOthersAlone(t *testing.T) {
	s := newServer(t)
	for name, change := range map[string]func(spec, status map[string]any){
		"other signer": func(spec, _ map[string]any) { spec["signerName"] = "kubernetes.io/kube-apiserver-client-kubelet" },
		"denied":       func(_, status map[string]any) { status["conditions"] = []any{map[string]any{"type": "Denied"}} },
		"issued":       func(_, status map[string]any) { status["certificate"] = []byte("PEM") },
	} {
		s.submit(name, asks(t, nil))
		change(s.objects[name]["spec"].(map[string]any), s.objects[name]["status"].(map[string]any))
	}
	start(t, s)
	eventually(t, "the watch", s.watched)
	for name := range s.objects {
		if s.approved(name) {
			t.Errorf("%s was approved", name)
		}
	}
}

func TestRunOutlivesTrouble(t *testing.T) {
	s := newServer(t)
	s.fail = &step.StatusError{Code: 503, Message: "starting"}
	s.submit("one", asks(t, nil))
	said := start(t, s)
	eventually(t, "a complaint", func() bool { return said.count("list requests: API server: 503: starting; looking again in 5ms") > 0 })
	s.set(func() { s.fail = nil })
	eventually(t, "the approval", func() bool { return s.approved("one") })
	eventually(t, "the watch", s.watched)
	s.endWatches(io.ErrUnexpectedEOF)
	eventually(t, "a complaint about the watch", func() bool { return said.count("watch requests: unexpected EOF") > 0 })
	eventually(t, "the next watch", s.watched)
	s.submit("two", asks(t, nil))
	eventually(t, "the second approval", func() bool { return s.approved("two") })
}

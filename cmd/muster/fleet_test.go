// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/phases/phasestest"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/remote/sshtest"
)

// fakeNode is a muster-node that remembers which steps were done and does
// none. It has a CA, so that it can sign.
type fakeNode struct {
	nodeSum   string
	caCert    []byte
	caKey     []byte
	mu        sync.Mutex
	facts     facts.Host
	done      map[string]bool
	breaks    string // the text of the step that fails
	hangs     string // the text of the step that takes for ever
	hung      chan struct{}
	wasLocked bool
}

// fitHost passes every check.
func fitHost(address string) facts.Host {
	return facts.Host{
		Arch: "amd64", CPUs: 2, MemoryMiB: 4096, Systemd: true, CgroupV2: true, Cgroups: []string{"cpu", "memory", "pids"},
		Disks:     map[string]facts.Disk{"/opt": {FreeMiB: 10000}, "/var/lib": {FreeMiB: 10000}},
		Addresses: []string{address}, IPVS: true, CPUMHz: true, Resolver: "/etc/resolv.conf",
		Features: map[string]bool{"overlay": true, "bridge-nf": true, "seccomp": true, "conntrack": true},
	}
}

// exec is the machine's shell.
func (n *fakeNode) exec(c sshtest.Call) int {
	switch {
	case strings.HasPrefix(c.Line, "sha256sum "):
		fmt.Fprintf(c.Stdout, "%s  /opt/muster/bin/muster-node\n", n.nodeSum)
		return 0
	case strings.HasSuffix(c.Line, "/muster-node serve"):
		session, err := protocol.Server(stdio{c.Stdin, c.Stdout})
		if err != nil {
			return 1
		}
		session.Serve(context.Background(), n)
		return 0
	case strings.HasPrefix(c.Line, "systemctl is-active "):
		for range strings.Fields(c.Line)[2:] {
			fmt.Fprintln(c.Stdout, "active")
		}
		return 0
	case strings.HasPrefix(c.Line, "/opt/muster/bin/kubectl "):
		fmt.Fprintln(c.Stdout, `{"items": [{"metadata": {"name": "cp-1"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.3"}, "conditions": [{"type": "Ready", "status": "True"}]}}]}`)
		return 0
	}
	return 127
}

type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error { return nil }

// Handle answers as a muster-node does.
func (n *fakeNode) Handle(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r.Op {
	case protocol.OpHello:
		return w.Value(protocol.Hello{Protocol: protocol.Version, Version: "test", Root: true})
	case protocol.OpLock:
		n.wasLocked = true
		return w.Value(protocol.Ack{})
	case protocol.OpFacts:
		f := n.facts
		if n.done["file "+facts.ClusterFile] {
			f.Cluster = "demo"
		}
		f.Time = time.Now()
		return w.Value(f)
	case protocol.OpApply:
		return n.apply(ctx, r, w)
	case protocol.OpReset:
		n.done = map[string]bool{}
		return nil
	case protocol.OpAuthority:
		return w.Value(protocol.Data{Data: n.caCert})
	case protocol.OpSign:
		cert, err := pki.Sign(n.caCert, n.caKey, r.Data, *r.Certificate, time.Now())
		return errors.Join(err, w.Value(protocol.Data{Data: cert}))
	}
	return fmt.Errorf("no such call %q", r.Op)
}

func (n *fakeNode) apply(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
	if !r.Check && !n.wasLocked {
		return errors.New("changed without a lock")
	}
	for i, s := range r.Steps {
		if _, waits := s.(step.Condition); waits && r.Check {
			continue
		}
		if s.String() == n.hangs {
			close(n.hung)
			n.mu.Unlock()
			<-ctx.Done()
			n.mu.Lock()
			return ctx.Err()
		}
		e := protocol.Event{Index: i, Text: s.String(), State: protocol.Changed}
		switch {
		case n.done[s.String()]:
			e.State = protocol.Right
		case r.Check:
			e.State = protocol.Would
		case s.String() == n.breaks:
			e.State, e.Cause, e.Evidence = protocol.Failed, "it does not work", []string{"etcd.service: enabled=true active=false sub=failed"}
		default:
			n.done[s.String()] = true
		}
		if err := w.Event(e); err != nil {
			return err
		}
		if e.State == protocol.Failed {
			return errors.New("a step failed")
		}
	}
	return nil
}

// fleet HOST... starts a machine with a muster-node for each host of the
// script's inventory, makes the bundle b and writes id and known. Ports are in
// PORT_CP1 for cp-1 and so on.
func (w world) fleet(ts *testscript.TestScript, _ bool, hosts []string) {
	key := sshtest.NewKey(w.t, ts.MkAbs("id"), "")
	nodeSum := wholeBundle(w.t, ts.MkAbs("b"))
	caCert, caKey, err := pki.NewCA(pki.Kubernetes.CommonName(), time.Now(), pki.CAValidity)
	ts.Check(err)
	known := ""
	nodes := ts.Value(fleetKey{}).(map[string]*fakeNode)
	for i, name := range hosts {
		n := &fakeNode{nodeSum: nodeSum, caCert: caCert, caKey: caKey, done: map[string]bool{}, facts: fitHost("192.0.2." + strconv.Itoa(i+1))}
		config := sshtest.Config{Exec: n.exec}
		config.Authorized = append(config.Authorized, key.Public)
		server := sshtest.Start(w.t, config)
		known += sshtest.KnownHosts(server)
		ts.Setenv("PORT_"+strings.ToUpper(strings.ReplaceAll(name, "-", "")), strconv.Itoa(server.Port()))
		nodes[name] = n
	}
	ts.Check(os.WriteFile(ts.MkAbs("known"), []byte(known), 0o600))
	ts.Setenv("MUSTER_BUNDLE", ts.MkAbs("b"))
}

// fleetKey is the key of a script's fake nodes among its values.
type fleetKey struct{}

// node HOST breaks STEP has a step fail, `node HOST hangs STEP` has it never
// end, `node HOST mends` takes either back, `node HOST facts JSON` changes facts.
func fakeNodeCmd(ts *testscript.TestScript, _ bool, args []string) {
	n := ts.Value(fleetKey{}).(map[string]*fakeNode)[args[0]]
	n.mu.Lock()
	defer n.mu.Unlock()
	switch args[1] {
	case "breaks":
		n.breaks = args[2]
	case "hangs":
		n.hangs, n.hung = args[2], make(chan struct{})
	case "mends":
		n.breaks, n.hangs = "", ""
	case "facts":
		ts.Check(json.Unmarshal([]byte(args[2]), &n.facts))
	default:
		ts.Fatalf("a node has no %s", args[1])
	}
}

// wholeBundle writes a bundle with every artifact, each tiny, and returns the
// sum of muster-node.
func wholeBundle(t *testing.T, dir string) string {
	t.Helper()
	var artifacts []bundle.Artifact
	for name, a := range phasestest.Built() {
		a.License, a.Module = "Apache-2.0", "example.org/"+name
		for i, f := range a.Files {
			a.Files[i] = testBlob(t, dir, f.Name, "content of "+f.Name)
		}
		artifacts = append(artifacts, a)
	}
	if err := bundle.Write(dir, artifacts); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Lookup("muster-node")
	if err != nil {
		t.Fatal(err)
	}
	return a.Files[0].SHA256
}

// ctrl-c HOST waits until the host hangs and interrupts the program that runs
// in the background.
func ctrlC(ts *testscript.TestScript, _ bool, args []string) {
	n := ts.Value(fleetKey{}).(map[string]*fakeNode)[args[0]]
	n.mu.Lock()
	hung := n.hung
	n.mu.Unlock()
	select {
	case <-hung:
	case <-time.After(time.Minute):
		ts.Fatalf("%s was not asked for the step that hangs", args[0])
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(os.Interrupt))
	}
}

// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/remote/sshtest"
)

// fleet is a control-plane host, a worker and another worker, each an SSH
// server in this process with a muster-node that works in a folder.
type fleet struct {
	*operator.Operator
	machines map[string]*machine
}

// machine is one host.
type machine struct {
	*sshtest.Server
	root     string
	nodeSum  string
	api      *fakeAPI
	sessions chan *protocol.Session // of each muster-node that was started

	// handler answers instead of a muster-node; complaint is what one says that
	// ends at once.
	handler   protocol.Handler
	complaint string
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	return fleetOf(t, "cp-1", "w-1", "w-2")
}

func fleetOf(t testing.TB, names ...string) *fleet {
	t.Helper()
	b := testBundle(t)
	node, err := b.Lookup("muster-node")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := sshtest.NewKey(t, filepath.Join(dir, "id"), "")
	f := &fleet{machines: map[string]*machine{}}
	inv := inventory.Inventory{Cluster: "demo"}
	known := ""
	for i, name := range names {
		m := &machine{root: t.TempDir(), nodeSum: node.Files[0].SHA256, api: &fakeAPI{}, sessions: make(chan *protocol.Session, 10)}
		m.put(t, "/proc/self/mountinfo", "") // a snapshot lists the mounts
		config := sshtest.Config{Exec: m.exec}
		config.Authorized = append(config.Authorized, key.Public)
		m.Server = sshtest.Start(t, config)
		f.machines[name] = m
		known += sshtest.KnownHosts(m.Server)
		h := inventory.Host{Name: name, Address: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Roles: []inventory.Role{inventory.Worker}}
		if name == "cp-1" {
			h.Roles = []inventory.Role{inventory.ControlPlane, inventory.Etcd}
		}
		h.SSH = m.SSH(key, filepath.Join(dir, "known_hosts"))
		inv.Hosts = append(inv.Hosts, h)
	}
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Operator = f.another(t, inv, b)
	return f
}

// another is an operator with connections of its own.
func (f *fleet) another(t testing.TB, inv inventory.Inventory, b *bundle.Bundle) *operator.Operator {
	t.Helper()
	o := &operator.Operator{Inventory: inv, Bundle: b, Locked: true}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// put writes a file of the machine.
func (m *machine) put(t testing.TB, path, content string) {
	t.Helper()
	full := filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// exec is the machine's shell. It knows what muster asks for and nothing else.
func (m *machine) exec(c sshtest.Call) int {
	switch c.Line {
	case "sha256sum /opt/muster/bin/muster-node":
		fmt.Fprintf(c.Stdout, "%s  /opt/muster/bin/muster-node\n", m.nodeSum)
		return 0
	case "/opt/muster/bin/muster-node serve":
		if m.complaint != "" {
			fmt.Fprintln(c.Stderr, m.complaint)
			return 1
		}
		if err := m.serve(c); err != nil {
			fmt.Fprintln(c.Stderr, err)
			return 1
		}
		return 0
	case "systemctl is-active etcd.service":
		fmt.Fprintln(c.Stdout, "inactive")
		return 3
	}
	fmt.Fprintf(c.Stderr, "unknown command %q\n", c.Line)
	return 127
}

// serve is a muster-node in this process.
func (m *machine) serve(c sshtest.Call) error {
	session, err := protocol.Server(stdio{c.Stdin, c.Stdout})
	if err != nil {
		return err
	}
	m.sessions <- session
	if m.handler != nil {
		session.Serve(context.Background(), m.handler)
		return nil
	}
	host := &step.Host{
		Root: m.root, Units: noUnits{}, Exec: noPrograms{}, API: m.api, Now: time.Now, Operator: agent.Operator{Session: session},
	}
	journal, err := agent.OpenJournal(host)
	if err != nil {
		return err
	}
	a := &agent.Agent{Host: host, Journal: journal, Version: "test"}
	session.Serve(context.Background(), a)
	return a.Close()
}

type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error { return nil }

type noUnits struct{}

func (noUnits) State(context.Context, string) (step.UnitState, error) { return step.UnitState{}, nil }
func (noUnits) Restart(context.Context, string) error                 { return errors.New("no units here") }
func (noUnits) Remove(context.Context, string) error                  { return errors.New("no units here") }

// noPrograms lets programs that only look succeed without output.
type noPrograms struct{}

func (noPrograms) Run(context.Context, io.Reader, ...string) ([]byte, error) { return nil, nil }

// fakeAPI remembers what was sent to the API server.
type fakeAPI struct {
	mu    sync.Mutex
	calls []string
}

func (a *fakeAPI) Call(_ context.Context, as step.Credentials, c step.Call) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf("%s %s %s %s", as.Cert, c.Method, c.Path, c.Body))
	return nil, nil
}

// testBundle holds muster-node and a program.
func testBundle(t testing.TB) *bundle.Bundle {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	var artifacts []bundle.Artifact
	for _, name := range []string{"muster-node", "runc"} {
		artifacts = append(artifacts, bundle.Artifact{
			Name: name, Version: "1.0.0", Kind: bundle.Binary, Group: bundle.Core, License: "Apache-2.0", Module: "example.org/" + name,
			Files: []bundle.File{testBlob(t, dir, name)},
		})
	}
	if err := bundle.Write(dir, artifacts); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testBlob(t testing.TB, dir, name string) bundle.File {
	t.Helper()
	content := []byte(strings.Repeat("the program "+name+" ", 1000))
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	blob := enc.EncodeAll(content, nil)
	hex := fmt.Sprintf("%x", sha256.Sum256(blob))
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := errors.Join(os.MkdirAll(blobs, 0o755), os.WriteFile(filepath.Join(blobs, hex), blob, 0o644)); err != nil {
		t.Fatal(err)
	}
	return bundle.File{
		Name: name, Mode: 0o755, SHA256: fmt.Sprintf("%x", sha256.Sum256(content)), Size: int64(len(content)), Blob: hex, BlobSize: int64(len(blob)),
	}
}

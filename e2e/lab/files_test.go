// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/inventory"
)

func TestInventoryIsWhatTheInstallerReads(t *testing.T) {
	r := threeMachines(t)
	data, err := renderInventory(r, "/state/demo")
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "inventory.yaml.golden", data)
	parsed, err := inventory.Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Cluster != "demo" || parsed.API.Endpoint != "127.0.0.1:40000" || len(parsed.Hosts) != 2 {
		t.Fatalf("read back: %+v", parsed)
	}
	for _, h := range parsed.Hosts {
		m := r.Machines[0]
		if h.Name != m.Name {
			m = r.Machines[1]
		}
		if h.Name != m.Name || h.Address != m.Address || h.SSH.Host != "127.0.0.1" || h.SSH.Port != m.SSHPort ||
			h.SSH.User != "root" || len(h.SSH.Keys) != 1 || h.SSH.KnownHosts[0] != "/state/demo/known_hosts" {
			t.Errorf("read back %+v for %+v", h, m)
		}
	}
}

func TestDualStackInventoryIsWhatTheInstallerReads(t *testing.T) {
	r := threeMachines(t)
	r.DualStack = true
	data, err := renderInventory(r, "/state/demo")
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "inventory-dual.yaml.golden", data)
	// The spare joins by taking its comment mark away.
	parsed, err := inventory.Parse(bytes.NewReader(bytes.ReplaceAll(data, []byte("\n#  - "), []byte("\n  - "))))
	if err != nil {
		t.Fatal(err)
	}
	if len(parsed.Hosts) != 3 {
		t.Fatalf("read back: %+v", parsed)
	}
	for i, h := range parsed.Hosts {
		if m := r.Machines[i]; h.Address != m.Address || h.Second != address6Of(m.Address) {
			t.Errorf("read back %v for %s", h.Addresses(), m.Name)
		}
	}
}

func TestKnownHostsAdmitsOnlyTheMachine(t *testing.T) {
	r := threeMachines(t)
	data, err := knownHosts(r.Machines)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), knownHostsFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	check := must[ssh.HostKeyCallback](t)(knownhosts.New(path))
	key := func(i int) ssh.PublicKey {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(r.Machines[i].HostKey))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	outside := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40001}
	inside := &net.TCPAddr{IP: net.IPv4(10, 77, 0, 11), Port: 22}
	if err := errors.Join(check("127.0.0.1:40001", outside, key(0)), check("10.77.0.11:22", inside, key(0))); err != nil {
		t.Errorf("the machine's own key is refused: %v", err)
	}
	if check("127.0.0.1:40001", outside, key(1)) == nil {
		t.Error("another machine's key is admitted")
	}
}

func TestClientKeyIsMadeOnce(t *testing.T) {
	d := labDir(t.TempDir())
	first := must[ssh.Signer](t)(d.ensureClientKey())
	second := must[ssh.Signer](t)(d.ensureClientKey())
	if keyLine(first.PublicKey()) != keyLine(second.PublicKey()) {
		t.Error("two keys")
	}
	info, err := os.Stat(d.path(clientKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has mode %v, %v", info.Mode(), err)
	}
	if public, err := os.ReadFile(d.path(clientKeyFile + ".pub")); err != nil || string(public) != keyLine(first.PublicKey())+"\n" {
		t.Errorf("public key file: %q, %v", public, err)
	}
}

func TestSeedArchive(t *testing.T) {
	host := keyPair{private: []byte("PRIVATE"), public: "ssh-ed25519 HOST"}
	files := seed("w-1", "0123456789abcdef0123456789abcdef", "ssh-ed25519 CLIENT", host,
		netip.MustParseAddr("10.77.0.21"), netip.MustParseAddr("10.77.0.1"))
	data, err := archive(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(data)%512 != 0 {
		t.Errorf("%d bytes are no whole number of disk blocks", len(data))
	}
	var out strings.Builder
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(fs.FileMode(h.Mode).String() + " " + h.Name + "\n" + string(body))
	}
	golden.Equal(t, "seed.golden", []byte(out.String()))
}

func TestMachinesAreMadeOnce(t *testing.T) {
	d := labDir(t.TempDir())
	l := Lab{dir: d, record: threeMachines(t)}
	for i := range l.record.Machines {
		l.record.Machines[i].HostKey = ""
	}
	writeAll(t, string(d), map[string]string{modulesFile: strings.Repeat("M", 512)})
	if err := l.writeFiles(); err != nil {
		t.Fatal(err)
	}
	first := must[[]byte](t)(os.ReadFile(d.machine("w-1", seedFile)))
	if !bytes.HasSuffix(first, bytes.Repeat([]byte("M"), 512)) {
		t.Error("the kernel's module list is not in the seed")
	}
	if !bytes.Contains(first, []byte(l.record.Machines[1].HostKey)) {
		t.Error("known_hosts will hold another key than the machine")
	}
	l.record = must[record](t)(d.load())
	if err := l.writeFiles(); err != nil {
		t.Fatal(err)
	}
	if again := must[[]byte](t)(os.ReadFile(d.machine("w-1", seedFile))); !bytes.Equal(first, again) {
		t.Error("the second run gave the machine another identity")
	}
}

func TestBareLabHasNoInventory(t *testing.T) {
	d := labDir(t.TempDir())
	l := Lab{dir: d, record: threeMachines(t)}
	l.record.Bare = true
	writeAll(t, string(d), map[string]string{modulesFile: "", inventoryFile: "of a time when it was not"})
	if err := l.writeFiles(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Inventory()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("inventory: %v", err)
	}
}

func TestWriteFileLeavesNothingBeside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, data := range []string{"a", "b"} {
		if err := writeFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFile(filepath.Join(dir, "none", "f"), nil, 0o600); err == nil {
		t.Error("no directory, no error")
	}
	entries := must[[]os.DirEntry](t)(os.ReadDir(dir))
	if data, err := os.ReadFile(path); string(data) != "b" || err != nil || len(entries) != 1 {
		t.Errorf("%q, %v, %v", data, err, entries)
	}
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f := must[*os.File](t)(os.Create(from))
	for _, at := range []int64{0, 8 << 20, 20 << 20} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(64<<20), f.Close(), copySparse(from, to)); err != nil {
		t.Fatal(err)
	}
	a, b := must[[]byte](t)(os.ReadFile(from)), must[[]byte](t)(os.ReadFile(to))
	if !bytes.Equal(a, b) {
		t.Error("the copy differs")
	}
	ia, ib := must[os.FileInfo](t)(os.Stat(from)), must[os.FileInfo](t)(os.Stat(to))
	if !ia.ModTime().Equal(ib.ModTime()) {
		t.Error("the copy has another time: the copy-on-write disk would refuse it")
	}
	if blocks := blocksOf(ib); blocks > 2*blocksOf(ia)+64 {
		t.Errorf("the copy takes %d blocks, the original %d: holes were filled", blocks, blocksOf(ia))
	}
}

func TestOpenTellsWhatToDo(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if _, err := Open("none"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "lab up --name none") {
		t.Errorf("got %v", err)
	}
	if _, err := Open("../etc"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is a path: %v", err)
	}
	d := must[labDir](t)(dirOf("broken"))
	writeAll(t, string(d), map[string]string{"lab.json": "{"})
	if _, err := Open("broken"); err == nil || !strings.Contains(err.Error(), "lab down --name broken") {
		t.Errorf("got %v", err)
	}
}

func TestOpenedLab(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := must[labDir](t)(dirOf("demo"))
	if err := errors.Join(os.MkdirAll(string(d), 0o700), d.save(threeMachines(t))); err != nil {
		t.Fatal(err)
	}
	l := must[*Lab](t)(Open("demo"))
	machines := must[[]Status](t)(l.Machines())
	if len(machines) != 3 || machines[0].State != Stopped || !machines[2].Spare || l.API() != "127.0.0.1:40000" {
		t.Errorf("got %+v, API %s", machines, l.API())
	}
	argv := must[[]string](t)(l.SSH("w-1"))
	golden.Equal(t, "ssh.golden", []byte(strings.ReplaceAll(strings.Join(argv, "\n"), string(d), "/state/demo")+"\n"))
	if _, err := l.SSH("w-9"); err == nil || !strings.Contains(err.Error(), "[cp-1 w-1 w-2]") {
		t.Errorf("a machine that is not there: %v", err)
	}
	if found, err := Names(); err != nil || len(found) != 1 || found[0] != "demo" {
		t.Errorf("names: %v, %v", found, err)
	}
	// A machine that is stopped has no process to freeze.
	if err := l.Pause(t.Context(), "w-1"); err == nil {
		t.Error("a stopped machine was paused")
	}
}

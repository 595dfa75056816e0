// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-project/muster/e2e/lab"
)

// TestCluster is the life of a cluster: its parts follow each other and stop
// at the first that fails.
func TestCluster(t *testing.T) {
	u := newUser(t, lab.Spec{Name: "e2e", Machines: lab.Standard(1, 2, 1, 1536)})
	all := []string{"cp-1", "w-1", "w-2", "w-3"}
	bare := u.states(t, all...)
	for _, part := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"refuses what is wrong at once", func(t *testing.T) { u.refusals(t, bare) }},
		{"init goes on after Ctrl-C", u.initTwice},
		{"second apply writes nothing", u.applyNothing},
		{"kubeconfig", u.kubeconfigKeeps},
		{"sample answers", func(t *testing.T) { u.muster(t, "sample") }},
		{"pods reach pods on other hosts", u.podsReachPods},
		{"services", u.services},
		{"names", u.names},
		{"kubectl reaches kubelets", u.kubeletVerbs},
		{"coredns is spread", u.corednsSpread},
		{"kube-proxy is not there", u.noKubeProxy},
		{"a third worker joins", u.join},
		{"a worker comes back from a reboot", func(t *testing.T) { u.reboot(t, "w-1") }},
		{"the control plane comes back from a reboot", func(t *testing.T) { u.reboot(t, "cp-1") }},
		{"reset leaves nothing", func(t *testing.T) { u.reset(t, bare) }},
	} {
		if !t.Run(part.name, part.run) {
			t.FailNow()
		}
	}
}

// initTwice ends init in the middle as Ctrl-C does and runs it again.
func (u *user) initTwice(t *testing.T) {
	r := u.run(t, "muster", "cp-1         etcd  ", "init")
	if r.code != 130 {
		t.Fatalf("Ctrl-C in the middle: %s", r)
	}
	r = u.muster(t, "init")
	t.Log(r)
	u.allReady(t, "cp-1", "w-1", "w-2")
}

func (u *user) allReady(t *testing.T, nodes ...string) {
	t.Helper()
	got := strings.Fields(u.kubectl(t, "get", "nodes", "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}`))
	for _, n := range nodes {
		if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+n+"=True ") {
			t.Fatalf("%s is not Ready: %v", n, got)
		}
	}
	if len(got) != len(nodes) {
		t.Fatalf("want nodes %v, got %v", nodes, got)
	}
}

// applyNothing compares the hosts' own files around a second apply, and what
// it says.
func (u *user) applyNothing(t *testing.T) {
	const fingerprint = `find /etc /opt /var/lib/muster /var/lib/kubelet/config.yaml -xdev -type f -printf '%p %T@ %C@\n' | sort | sha256sum; systemctl show -p ExecMainStartTimestampMonotonic etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet flanneld muster-proxier`
	before := make(map[string]string)
	for _, m := range []string{"cp-1", "w-1", "w-2"} {
		before[m] = u.on(t, m, fingerprint)
	}
	if r := u.muster(t, "apply"); !strings.Contains(r.stdout, "nothing written") {
		t.Errorf("it does not say that nothing was written: %s", r)
	}
	if r := u.muster(t, "plan"); !strings.Contains(r.stdout, "nothing would change") {
		t.Errorf("plan: %s", r)
	}
	for m, was := range before {
		if now := u.on(t, m, fingerprint); now != was {
			t.Errorf("%s was written to:\n%s\n%s", m, was, now)
		}
	}
	if r := u.muster(t, "status"); strings.Count(r.stdout, "all running") != 3 {
		t.Errorf("status: %s", r)
	}
}

// kubeconfigKeeps: another cluster's entry of the same name is left alone.
func (u *user) kubeconfigKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	const other = "apiVersion: v1\nkind: Config\nclusters:\n- name: e2e # mine\n  cluster:\n    server: https://other.example\n    certificate-authority-data: b3RoZXI=\n"
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	r := u.run(t, "muster", "", "kubeconfig", "--kubeconfig", path)
	if r.code == 0 || !strings.Contains(r.stderr, "other.example") {
		t.Errorf("another cluster's entry was taken: %s", r)
	}
	if got, _ := os.ReadFile(path); string(got) != other {
		t.Errorf("the file has changed:\n%s", got)
	}
	u.muster(t, "kubeconfig", "--kubeconfig", path, "--context", "second")
	if out := u.kubectl(t, "--kubeconfig", path, "--context", "second", "auth", "whoami"); !strings.Contains(out, "cluster-admins") {
		t.Errorf("whoami: %s", out)
	}
}

// reset compares every machine with what it was when it was bare.
func (u *user) reset(t *testing.T, bare map[string]string) {
	r := u.muster(t, "reset", "--yes")
	t.Log(r)
	for m, before := range bare {
		if !strings.Contains(r.stdout, m+" is as it was") {
			t.Errorf("it does not say that %s is as it was:\n%s", m, r.stdout)
		}
		if diff := difference(before, u.on(t, m, state)); diff != "" {
			t.Errorf("%s is not as it was:\n%s", m, diff)
		}
	}
}

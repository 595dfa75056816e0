// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/e2e/lab"
)

const kubeSystem = "--namespace=kube-system"

// TestCluster is the life of a cluster: its parts follow each other and stop
// at the first that fails.
func TestCluster(t *testing.T) {
	u := newUser(t, "e2e", lab.Standard(1, 2, 1, 1536))
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

// refusals: a wrong key, a changed host key, a host that is down and a typo
// are told at once, and nothing has changed on any machine.
func (u *user) refusals(t *testing.T, bare map[string]string) {
	good, err := os.ReadFile(u.inventory)
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := os.WriteFile(u.inventory, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	defer restore()
	change := func(t *testing.T, old, new string) {
		t.Helper()
		restore()
		text := strings.Replace(string(good), old, new, 1)
		if text == string(good) {
			t.Fatalf("the inventory has no %q", old)
		}
		if err := os.WriteFile(u.inventory, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys := filepath.Dir(u.lab.Inventory())
	t.Run("typo", func(t *testing.T) {
		change(t, "roles: [worker]", "rolse: [worker]")
		r := u.run(t, "muster", "", "init")
		mustSay(t, r, 3, "rolse")
	})
	t.Run("wrong key", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "id")
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		change(t, filepath.Join(keys, "id_ed25519"), other)
		mustSay(t, u.run(t, "muster", "", "init"), 4, "cp-1", other)
	})
	t.Run("changed host key", func(t *testing.T) {
		known, err := os.ReadFile(filepath.Join(keys, "known_hosts"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(path, swapKeys(string(known)), 0o600); err != nil {
			t.Fatal(err)
		}
		change(t, filepath.Join(keys, "known_hosts"), path)
		mustSay(t, u.run(t, "muster", "", "init"), 4, path, "SHA256:")
	})
	t.Run("host down", func(t *testing.T) {
		restore()
		if err := u.lab.Cut(t.Context(), "w-2"); err != nil {
			t.Fatal(err)
		}
		r := u.run(t, "muster", "", "init")
		if err := u.lab.Mend(t.Context(), "w-2"); err != nil {
			t.Fatal(err)
		}
		mustSay(t, r, 4, "w-2")
	})
	for m, before := range bare {
		if diff := withoutAgent(difference(before, u.on(t, m, state))); diff != "" {
			t.Errorf("%s has changed:\n%s", m, diff)
		}
	}
}

// swapKeys gives every host the key of the next one.
func swapKeys(known string) []byte {
	lines := strings.Split(strings.TrimSpace(known), "\n")
	var out strings.Builder
	for i, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		_, key, _ := strings.Cut(lines[(i+1)%len(lines)], " ")
		fmt.Fprintln(&out, name, key)
	}
	return []byte(out.String())
}

// withoutAgent drops the one thing that muster brings to a host that it only
// asks: its own agent.
func withoutAgent(diff string) string {
	var out strings.Builder
	for line := range strings.Lines(diff) {
		if !strings.HasPrefix(line, "+ /opt/muster") && !strings.HasPrefix(line, "+ /run/muster") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func mustSay(t *testing.T, r result, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("want exit code %d: %s", code, r)
	}
	if r.took > 30*time.Second {
		t.Errorf("it took %s to say so", r.took)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("the message does not name %q: %s", text, r)
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

// pod is a pod of the sample.
type pod struct{ name, node, ip string }

func (u *user) pods(t *testing.T, selector string, more ...string) []pod {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct {
				Name              string
				DeletionTimestamp *time.Time
			}
			Spec   struct{ NodeName string }
			Status struct{ PodIP, Phase string }
		}
	}
	args := append([]string{"get", "pods", "-o", "json", "-l", selector}, more...)
	if err := json.Unmarshal([]byte(u.kubectl(t, args...)), &list); err != nil {
		t.Fatal(err)
	}
	var pods []pod
	for _, i := range list.Items {
		if i.Metadata.DeletionTimestamp == nil && i.Status.Phase == "Running" {
			pods = append(pods, pod{i.Metadata.Name, i.Spec.NodeName, i.Status.PodIP})
		}
	}
	return pods
}

func (u *user) hello(t *testing.T) []pod {
	t.Helper()
	pods := u.pods(t, "app=hello")
	if len(pods) != 2 || pods[0].node == pods[1].node {
		t.Fatalf("want two pods of hello on two hosts: %v", pods)
	}
	return pods
}

func (u *user) podsReachPods(t *testing.T) {
	pods := u.hello(t)
	for i, from := range pods {
		to := pods[1-i]
		got := u.kubectl(t, "exec", from.name, "--", "wget", "-qO-", "-T", "5", "http://"+to.ip+":8080/hostname")
		if got != to.name {
			t.Errorf("from %s to %s: %q", from.node, to.node, got)
		}
	}
}

// services: the Service answers by ClusterIP from pods and hosts and by
// NodePort on every host, over TCP and UDP, and uses both pods.
func (u *user) services(t *testing.T) {
	pods := u.hello(t)
	u.kubectl(t, "apply", "-f", "testdata/echo-udp.yaml")
	clusterIP := u.kubectl(t, "get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")
	udpIP := u.kubectl(t, "get", "service", "hello-udp", "-o", "jsonpath={.spec.clusterIP}")
	seen := make(map[string]bool)
	for range 10 {
		seen[u.kubectl(t, "exec", pods[0].name, "--", "wget", "-qO-", "-T", "5", "http://"+clusterIP+"/hostname")] = true
	}
	for _, p := range pods {
		if !seen[p.name] {
			t.Errorf("the ClusterIP never led to %s: %v", p.name, seen)
		}
	}
	for _, m := range []string{"cp-1", "w-1", "w-2"} {
		for _, target := range []string{clusterIP + ":80", "10.77.0.11:30080", "10.77.0.21:30080", "10.77.0.22:30080"} {
			if got := u.on(t, m, "curl -sS -m 5 http://"+target+"/hostname"); !seen[got] {
				t.Errorf("%s to %s: %q", m, target, got)
			}
		}
		if got := u.on(t, m, fmt.Sprintf("curl -sS -m 5 'http://%s:8080/dial?host=%s&port=81&protocol=udp&request=hostname&tries=1'", pods[0].ip, udpIP)); !strings.Contains(got, "hello-") {
			t.Errorf("UDP by ClusterIP %s, asked from %s: %s", udpIP, m, got)
		}
	}
	// A Service without endpoints refuses at once, and a port that no Service
	// has is refused too.
	for _, target := range []string{u.kubectl(t, "get", "service", "nobody", "-o", "jsonpath={.spec.clusterIP}") + ":80", clusterIP + ":81"} {
		start := time.Now()
		out, err := u.lab.Run(t.Context(), "w-1", "curl -sS -m 5 http://"+target+"/ 2>&1")
		if err == nil || !strings.Contains(out+err.Error(), "refused") && !strings.Contains(out+err.Error(), "connect") || time.Since(start) > 4*time.Second {
			t.Errorf("%s: want a refusal at once, got %q, %v", target, out, err)
		}
	}
}

// names: A, SRV, headless and pod records through CoreDNS.
func (u *user) names(t *testing.T) {
	pods := u.hello(t)
	lookup := func(kind, name string) string {
		r := u.run(t, "kubectl", "", "exec", pods[0].name, "--", "nslookup", "-type="+kind, name)
		return r.stdout + r.stderr
	}
	clusterIP := u.kubectl(t, "get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")
	for _, c := range []struct{ kind, name, want string }{
		{"a", "hello.default.svc.cluster.local", clusterIP},
		{"srv", "_http._tcp.hello.default.svc.cluster.local", "80 hello.default.svc.cluster.local"},
		{"a", "hello-headless.default.svc.cluster.local", pods[0].ip},
		{"a", "hello-headless.default.svc.cluster.local", pods[1].ip},
		{"a", strings.ReplaceAll(pods[1].ip, ".", "-") + ".default.pod.cluster.local", pods[1].ip},
		{"a", "kubernetes.default.svc.cluster.local", "10.96.0.1"},
		{"ptr", clusterIP, "hello.default.svc.cluster.local"},
	} {
		if got := lookup(c.kind, c.name); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: want %s in\n%s", c.kind, c.name, c.want, got)
		}
	}
	if got := u.kubectl(t, "exec", pods[0].name, "--", "/agnhost", "connect", "hello:80", "--timeout=5s"); got != "" {
		t.Errorf("by short name: %s", got)
	}
}

// kubeletVerbs: logs, exec and port-forward work with certificates that the
// cluster signed: no insecure flag anywhere.
func (u *user) kubeletVerbs(t *testing.T) {
	for _, p := range u.hello(t) {
		if got := u.kubectl(t, "logs", p.name, "--tail=5"); !strings.Contains(got, "GET") && !strings.Contains(got, "Serving") && got == "" {
			t.Errorf("logs of %s: %q", p.name, got)
		}
		if got := u.kubectl(t, "exec", p.name, "--", "hostname"); got != p.name {
			t.Errorf("exec in %s: %q", p.name, got)
		}
		if got, err := u.forward(t, p.name); err != nil || got != p.name {
			t.Errorf("port-forward to %s: %q, %v", p.name, got, err)
		}
	}
	for machine, ip := range map[string]string{"cp-1": "10.77.0.11", "w-1": "10.77.0.21", "w-2": "10.77.0.22"} {
		// curl fails unless the kubelet's certificate is from the cluster's CA.
		got := u.on(t, machine, "curl -sS -m 5 -o /dev/null -w '%{http_code}' --cacert /etc/kubernetes/pki/ca.crt https://"+ip+":10250/pods")
		if got != "401" {
			t.Errorf("the kubelet of %s without credentials: %s, want 401", machine, got)
		}
	}
}

func (u *user) forward(t *testing.T, name string) (string, error) {
	cmd := exec.CommandContext(t.Context(), filepath.Join(u.dir, "kubectl"), "port-forward", name, ":8080")
	cmd.Env = u.env
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var port int
	if _, err := fmt.Fscanf(out, "Forwarding from 127.0.0.1:%d", &port); err != nil {
		return "", fmt.Errorf("kubectl port-forward did not begin: %w", err)
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/hostname", port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

func (u *user) corednsSpread(t *testing.T) {
	eventually(t, time.Minute, "two replicas of CoreDNS on two hosts", func() error {
		pods := u.pods(t, "k8s-app=kube-dns", kubeSystem)
		if len(pods) != 2 || pods[0].node == pods[1].node {
			return fmt.Errorf("%v", pods)
		}
		return nil
	})
	if got := u.kubectl(t, "get", "pdb", kubeSystem, "-o", "jsonpath={.items[*].status.disruptionsAllowed}"); got != "1" {
		t.Errorf("disruptions allowed: %q", got)
	}
	if got := u.kubectl(t, "get", "node", "cp-1", "-o", "jsonpath={.spec.taints[*].key}"); got != "node-role.kubernetes.io/control-plane" {
		t.Errorf("taints of cp-1: %q", got)
	}
}

func (u *user) noKubeProxy(t *testing.T) {
	for _, m := range []string{"cp-1", "w-1"} {
		if got := u.on(t, m, "pgrep -c kube-proxy; ip link show kube-ipvs0 2>&1; iptables-save | grep -c KUBE-SVC; curl -s 127.0.0.1:10249/proxyMode || true"); !strings.Contains(got, "ipvs") {
			t.Errorf("%s: %s", m, got)
		}
		if got := u.on(t, m, "ipvsadm -Ln | grep -c '^TCP'"); got == "0" {
			t.Errorf("%s has no virtual server", m)
		}
	}
}

// join adds a host to the file and to the cluster; the others are not touched.
func (u *user) join(t *testing.T) {
	machines, err := u.lab.Machines()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(u.inventory, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		if m.Name == "w-3" {
			fmt.Fprintf(f, "  - name: w-3\n    address: %s\n    roles: [worker]\n    zone: b\n    labels: {disk: ssd}\n    ssh: {host: 127.0.0.1, port: %d}\n", m.Address, m.SSHPort)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	const journal = "sha256sum /var/lib/muster/journal.ndjson; find /etc -newer /var/lib/muster/journal.ndjson -type f"
	before := map[string]string{"cp-1": u.on(t, "cp-1", journal), "w-1": u.on(t, "w-1", journal), "w-2": u.on(t, "w-2", journal)}
	r := u.muster(t, "join", "w-3")
	t.Log(r)
	u.allReady(t, "cp-1", "w-1", "w-2", "w-3")
	for _, m := range []string{"w-1", "w-2"} {
		if now := u.on(t, m, journal); now != before[m] {
			t.Errorf("join touched %s:\n%s\n%s", m, before[m], now)
		}
	}
	if got := u.kubectl(t, "get", "node", "w-3", "-o", `jsonpath={.metadata.labels.disk} {.metadata.labels.topology\.kubernetes\.io/zone}`); got != "ssd b" {
		t.Errorf("labels of w-3: %q", got)
	}
	if got := u.on(t, "w-3", "curl -sS -m 5 http://10.77.0.23:30080/hostname"); !strings.HasPrefix(got, "hello-") {
		t.Errorf("NodePort on w-3: %q", got)
	}
}

// reboot takes a machine through a reboot; then its services answer again and
// apply finds nothing to do.
func (u *user) reboot(t *testing.T, machine string) {
	boot := u.on(t, machine, "cat /proc/sys/kernel/random/boot_id")
	if err := u.lab.Reboot(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	if now := u.on(t, machine, "cat /proc/sys/kernel/random/boot_id"); now == boot {
		t.Fatal("it has not rebooted")
	}
	eventually(t, 3*time.Minute, "everything runs again", func() error {
		if r := u.run(t, "muster", "", "status"); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	eventually(t, 2*time.Minute, "the Service answers on every host", func() error {
		for _, ip := range []string{"10.77.0.11", "10.77.0.21", "10.77.0.22", "10.77.0.23"} {
			if out, err := u.lab.Run(t.Context(), machine, "curl -sS -m 5 http://"+ip+":30080/hostname"); err != nil || !strings.HasPrefix(out, "hello-") {
				return fmt.Errorf("%s: %q, %w", ip, out, err)
			}
		}
		return nil
	})
	eventually(t, time.Minute, "names resolve in pods", func() error {
		pods := u.pods(t, "app=hello")
		if len(pods) == 0 {
			return fmt.Errorf("no pod")
		}
		if r := u.run(t, "kubectl", "", "exec", pods[0].name, "--", "nslookup", "hello.default.svc.cluster.local"); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if r := u.muster(t, "apply"); !strings.Contains(r.stdout, "nothing written") {
		t.Errorf("apply after the reboot: %s", r)
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

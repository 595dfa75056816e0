// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const kubeSystem = "--namespace=kube-system"

// pod is a pod of the sample.
type pod struct {
	name, node, ip string
	ips            []string // of each family, the primary one first
}

// pods are those of a selector that are ready to serve and stay.
func (u *user) pods(t *testing.T, selector string, more ...string) []pod {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct {
				Name              string
				DeletionTimestamp *time.Time
			}
			Spec   struct{ NodeName string }
			Status struct {
				PodIP      string
				PodIPs     []struct{ IP string }
				Conditions []struct{ Type, Status string }
			}
		}
	}
	args := append([]string{"get", "pods", "-o", "json", "-l", selector}, more...)
	if err := json.Unmarshal([]byte(u.kubectl(t, args...)), &list); err != nil {
		t.Fatal(err)
	}
	var pods []pod
	for _, i := range list.Items {
		ready := slices.ContainsFunc(i.Status.Conditions, func(c struct{ Type, Status string }) bool {
			return c.Type == "Ready" && c.Status == "True"
		})
		if i.Metadata.DeletionTimestamp == nil && ready {
			p := pod{name: i.Metadata.Name, node: i.Spec.NodeName, ip: i.Status.PodIP}
			for _, a := range i.Status.PodIPs {
				p.ips = append(p.ips, a.IP)
			}
			pods = append(pods, p)
		}
	}
	return pods
}

// hello returns the two pods of the sample, once both are there: `muster
// sample` is content when the first one answers.
func (u *user) hello(t *testing.T) []pod {
	t.Helper()
	var pods []pod
	eventually(t, time.Minute, "the pods of hello", func() error {
		pods = u.pods(t, "app=hello")
		if len(pods) != 2 || pods[0].node == pods[1].node {
			return fmt.Errorf("want two on two hosts: %v", pods)
		}
		return nil
	})
	return pods
}

func (u *user) podsReachPods(t *testing.T) {
	pods := u.hello(t)
	for i, from := range pods {
		to := pods[1-i]
		if got := u.dial(t, from, "http", to.ip, 8080); got != to.name {
			t.Errorf("from %s to %s: %q", from.node, to.node, got)
		}
	}
}

// dial has a pod ask for the name of whoever answers at an address.
func (u *user) dial(t *testing.T, from pod, protocol, host string, port int) string {
	t.Helper()
	out := u.on(t, from.node, fmt.Sprintf("curl -sS -m 20 'http://%s/dial?host=%s&port=%d&protocol=%s&request=hostname&tries=1'",
		net.JoinHostPort(from.ip, "8080"), host, port, protocol))
	var answer struct{ Responses, Errors []string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Responses) != 1 {
		t.Errorf("%s asks %s %s:%d: %s", from.node, protocol, host, port, out)
		return ""
	}
	return answer.Responses[0]
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
		seen[u.dial(t, pods[0], "http", clusterIP, 80)] = true
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
	}
	for _, from := range pods {
		if got := u.dial(t, from, "udp", udpIP, 81); !seen[got] {
			t.Errorf("UDP by ClusterIP from %s: %q", from.node, got)
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
		{"ptr", arpa(clusterIP), "hello.default.svc.cluster.local"},
	} {
		if got := lookup(c.kind, c.name); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: want %s in\n%s", c.kind, c.name, c.want, got)
		}
	}
	if got := u.kubectl(t, "exec", pods[0].name, "--", "/agnhost", "connect", "hello:80", "--timeout=5s"); got != "" {
		t.Errorf("by short name: %s", got)
	}
}

// arpa is the name under which an IPv4 address is looked up (RFC 1035, 3.5).
func arpa(ip string) string {
	bytes := strings.Split(ip, ".")
	slices.Reverse(bytes)
	return strings.Join(bytes, ".") + ".in-addr.arpa"
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
	eventually(t, time.Minute, "one of them may be disrupted", func() error {
		if got := u.kubectl(t, "get", "pdb", kubeSystem, "-o", "jsonpath={.items[*].status.disruptionsAllowed}"); got != "1" {
			return fmt.Errorf("disruptions allowed: %q", got)
		}
		return nil
	})
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

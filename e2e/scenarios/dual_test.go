// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/e2e/lab"
)

// TestDualStack is a cluster with IPv4 and IPv6 on two hosts, the smallest that
// has a way between hosts.
func TestDualStack(t *testing.T) {
	u := newUser(t, lab.Spec{Name: "e2e-dual", DualStack: true, Machines: []lab.Machine{
		{Name: "cp-1", Roles: []string{"control-plane", "etcd", "worker"}, MemoryMiB: 1536},
		{Name: "w-1", MemoryMiB: 1536},
	}})
	bare := u.states(t, "cp-1", "w-1")
	for _, part := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"init", func(t *testing.T) { t.Log(u.muster(t, "init")) }},
		{"sample answers", func(t *testing.T) { u.muster(t, "sample") }},
		{"nodes and pods have both families", u.bothFamilies},
		{"pods reach pods on the other host", u.podsReachPodsByBoth},
		{"services", u.servicesOfBoth},
		{"names", u.namesOfBoth},
		{"second apply writes nothing", func(t *testing.T) {
			if r := u.muster(t, "apply"); !strings.Contains(r.stdout, "nothing written") {
				t.Errorf("it does not say that nothing was written: %s", r)
			}
		}},
		{"reset leaves nothing", func(t *testing.T) { u.reset(t, bare) }},
	} {
		if !t.Run(part.name, part.run) {
			t.FailNow()
		}
	}
}

// nodeAddresses are those of the lab's two hosts.
func nodeAddresses() map[string][]string {
	return map[string][]string{"cp-1": {"10.77.0.11", "fd77::11"}, "w-1": {"10.77.0.21", "fd77::21"}}
}

func (u *user) bothFamilies(t *testing.T) {
	u.allReady(t, "cp-1", "w-1")
	for node, want := range nodeAddresses() {
		got := u.kubectl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`)
		if got != strings.Join(want, " ") {
			t.Errorf("addresses of %s: %s, want %s", node, got, want)
		}
		for _, a := range want {
			// curl fails unless the kubelet's certificate is from the cluster's CA
			// and has this address.
			code := u.on(t, node, "curl -sS -m 10 -o /dev/null -w '%{http_code}' --cacert /etc/kubernetes/pki/ca.crt https://"+net.JoinHostPort(a, "10250")+"/pods")
			if code != "401" {
				t.Errorf("the kubelet of %s at %s without credentials: %s, want 401", node, a, code)
			}
		}
	}
	for _, p := range u.hello(t) {
		if len(p.ips) != 2 || !strings.HasPrefix(p.ips[0], "10.244.") || !strings.HasPrefix(p.ips[1], "fd77:244:") {
			t.Errorf("addresses of %s: %v", p.name, p.ips)
		}
	}
}

func (u *user) podsReachPodsByBoth(t *testing.T) {
	pods := u.hello(t)
	for i, from := range pods {
		to := pods[1-i]
		for _, ip := range to.ips {
			if got := u.dial(t, from, "http", ip, 8080); got != to.name {
				t.Errorf("from %s to %s at %s: %q", from.node, to.node, ip, got)
			}
		}
	}
}

// servicesOfBoth: a Service of both families answers by both ClusterIPs and,
// on every host, by NodePort at both addresses; one of IPv6 alone answers too;
// one without endpoints refuses.
func (u *user) servicesOfBoth(t *testing.T) {
	pods := u.hello(t)
	names := []string{pods[0].name, pods[1].name}
	u.kubectl(t, "apply", "-f", "testdata/dual-stack.yaml")
	both, six := u.clusterIPs(t, "both", 2), u.clusterIPs(t, "six", 1)
	targets := []string{net.JoinHostPort(six[0], "80")}
	for _, ip := range both {
		targets = append(targets, net.JoinHostPort(ip, "80"))
	}
	for _, addresses := range nodeAddresses() {
		for _, a := range addresses {
			targets = append(targets, net.JoinHostPort(a, "30081"))
		}
	}
	for host := range nodeAddresses() {
		got := strings.Split(u.on(t, host, "for target in '"+strings.Join(targets, "' '")+
			`'; do echo $(curl -sS -g -m 10 "http://$target/hostname" 2>&1); done`), "\n")
		if len(got) != len(targets) {
			t.Fatalf("%s: %d targets, answers %q", host, len(targets), got)
		}
		for i, target := range targets {
			if !slices.Contains(names, got[i]) {
				t.Errorf("%s to %s: %s", host, target, got[i])
			}
		}
	}
	for _, from := range pods {
		for _, ip := range both {
			for protocol, port := range map[string]int{"http": 80, "udp": 81} {
				if got := u.dial(t, from, protocol, ip, port); !slices.Contains(names, got) {
					t.Errorf("%s from a pod of %s to %s: %q", protocol, from.node, ip, got)
				}
			}
		}
	}
	for _, ip := range u.clusterIPs(t, "nobody-both", 2) {
		r := u.run(t, "kubectl", "", "exec", pods[0].name, "--", "/agnhost", "connect", net.JoinHostPort(ip, "80"), "--timeout=10s")
		if !strings.Contains(r.stdout+r.stderr, "REFUSED") {
			t.Errorf("%s, which nobody serves: %s", ip, r)
		}
	}
}

func (u *user) clusterIPs(t *testing.T, service string, count int, more ...string) []string {
	t.Helper()
	args := append([]string{"get", "service", service, "-o", "jsonpath={.spec.clusterIPs[*]}"}, more...)
	ips := strings.Fields(u.kubectl(t, args...))
	if len(ips) != count {
		t.Fatalf("Service %s has ClusterIPs %v, want %d", service, ips, count)
	}
	return ips
}

// namesOfBoth: CoreDNS has both families' records and is asked by both.
func (u *user) namesOfBoth(t *testing.T) {
	pods := u.hello(t)
	both, dns := u.clusterIPs(t, "both", 2), u.clusterIPs(t, "kube-dns", 2, kubeSystem)
	for _, c := range []struct {
		server, question string
		wants            []string
	}{
		{dns[0], "-type=aaaa both.default.svc.cluster.local", both[1:]},
		{dns[1], "-type=a both.default.svc.cluster.local", both[:1]},
		{dns[1], "-type=aaaa both-headless.default.svc.cluster.local", []string{pods[0].ips[1], pods[1].ips[1]}},
		{dns[1], both[1], []string{"both.default.svc.cluster.local"}},
	} {
		args := slices.Concat([]string{"exec", pods[0].name, "--", "nslookup"}, strings.Fields(c.question), []string{c.server})
		r := u.run(t, "kubectl", "", args...)
		for _, want := range c.wants {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%s at %s: want %s in %s", c.question, c.server, want, r)
			}
		}
	}
}

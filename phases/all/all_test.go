// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/all"
	"github.com/muster-project/muster/phases/phasestest"
	"github.com/muster-project/muster/phases/sample"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// clusters are inventories of each shape that version 1 installs.
func clusters() map[string][]string {
	return map[string][]string{
		"alone":       {"hosts: [{name: cp-1, address: 192.0.2.1, roles: [control-plane, etcd]}]"},
		"one-and-two": phasestest.OneAndTwo(),
		"etcd-apart": {
			"hosts:",
			"- {name: cp-1, address: 192.0.2.1, roles: [control-plane]}",
			"- {name: db-1, address: 192.0.2.2, roles: [etcd]}",
			"- {name: db-2, address: 192.0.2.3, roles: [etcd]}",
			"- {name: db-3, address: 192.0.2.4, roles: [etcd]}",
			"- {name: w-1, address: 192.0.2.11, roles: [worker]}",
		},
		"worker-too": {
			"hosts:",
			"- {name: all-1, address: 192.0.2.1, roles: [control-plane, etcd, worker]}",
			"- {name: w-1, address: 192.0.2.11, roles: [worker]}",
		},
		"ipv6": {
			"network: {pods: [\"2001:db8:1::/48\"], services: [\"2001:db8:2::/112\"]}",
			"hosts:",
			"- {name: cp-1, address: \"2001:db8::1\", roles: [control-plane, etcd]}",
			"- {name: w-1, address: \"2001:db8::11\", roles: [worker]}",
		},
		"dual-stack": {
			"network: {pods: [10.244.0.0/16, \"2001:db8:1::/48\"], services: [10.96.0.0/16, \"2001:db8:2::/112\"]}",
			"api: {endpoint: \"api.example.org:6443\", names: [192.0.2.100, kube.example.org]}",
			"hosts:",
			"- {name: cp-1, address: [192.0.2.1, \"2001:db8::1\"], roles: [control-plane, etcd]}",
			"- {name: w-1, address: [192.0.2.11, \"2001:db8::11\"], roles: [worker]}",
		},
	}
}

func whole(t *testing.T, c phases.Cluster) plan.Plan {
	t.Helper()
	p, err := all.Plan(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// each runs a test on the plan of every cluster.
func each(t *testing.T, test func(*testing.T, phases.Cluster, plan.Plan)) {
	for name, lines := range clusters() {
		t.Run(name, func(t *testing.T) {
			c := phasestest.Cluster(t, lines...)
			test(t, c, whole(t, c))
		})
	}
}

// text is a plan for people.
func text(p plan.Plan) []byte {
	var b strings.Builder
	for _, task := range p.Tasks {
		b.WriteString(string(task.ID()))
		if task.For != "" {
			fmt.Fprintf(&b, " (for %s)", task.For)
		}
		b.WriteString("\n")
		for _, n := range task.Needs {
			fmt.Fprintf(&b, "  after %s\n", n)
		}
		for _, s := range task.Steps {
			fmt.Fprintf(&b, "  - %s\n", s)
		}
	}
	return []byte(b.String())
}

func TestPlans(t *testing.T) {
	for name, lines := range clusters() {
		golden.Equal(t, name+".golden", text(whole(t, phasestest.Cluster(t, lines...))))
	}
	released := phasestest.Cluster(t, clusters()["alone"]...)
	released.Artifacts = phasestest.Released()
	golden.Equal(t, "alone-released.golden", text(whole(t, released)))
	p, err := sample.Plan(phasestest.Cluster(t, phasestest.OneAndTwo()...))
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "sample.golden", text(p))
}

// Each program of a dual-stack cluster is told both families.
func TestBothFamiliesAreInTheFiles(t *testing.T) {
	lines := clusters()["dual-stack"]
	addresses := regexp.MustCompile(`2001:db8:|\b(192\.0\.2|10\.244\.0|10\.96\.0)\.`)
	var out strings.Builder
	for _, task := range whole(t, phasestest.Cluster(t, lines...)).Tasks {
		for _, s := range task.Steps {
			for line := range strings.Lines(content(s)) {
				if addresses.MatchString(line) {
					fmt.Fprintf(&out, "%s: %s: %s\n", task.ID(), s, strings.Trim(line, " \\\n"))
				}
			}
		}
	}
	golden.Equal(t, "dual-stack-addresses.golden", []byte(out.String()))
}

// content is what a step writes, as far as it is text.
func content(s step.Step) string {
	switch s := s.(type) {
	case step.File:
		return s.Data
	case step.Object:
		return s.YAML
	case step.Certificate:
		return fmt.Sprintln(s.Request.IPs)
	}
	return ""
}

// What a person writes first makes no host the first.
func TestPlanIsTheSameInAnyOrderOfHosts(t *testing.T) {
	for name, lines := range clusters() {
		first := slices.Index(lines, "hosts:") + 1
		if first == 0 {
			continue // one host, in one line
		}
		want := whole(t, phasestest.Cluster(t, lines...))
		for i := range len(lines) - first {
			turned := slices.Concat(lines[:first], lines[first+i:], lines[first:first+i])
			if got := whole(t, phasestest.Cluster(t, turned...)); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: another plan from\n%s", name, strings.Join(turned, "\n"))
			}
		}
	}
}

func TestPlanSurvivesJSON(t *testing.T) {
	each(t, func(t *testing.T, _ phases.Cluster, p plan.Plan) {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back plan.Plan
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(data) {
			t.Errorf("differs after a round trip: %v\n%s\n%s", err, data, again)
		}
	})
}

// A plan may be printed, saved and mailed.
func TestPlanHoldsNoSecret(t *testing.T) {
	secrets := map[string]*regexp.Regexp{
		"a PEM block":       regexp.MustCompile(`-----BEGIN|LS0tLS1CRUdJTi`),
		"a bootstrap token": regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`),
		"a password":        regexp.MustCompile(`(?i)(password|token)[\\"\s]*[:=][\\"\s]*[a-z0-9+/.]{16,}`),
	}
	each(t, func(t *testing.T, _ phases.Cluster, p plan.Plan) {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		for what, pattern := range secrets {
			if found := pattern.Find(data); found != nil {
				t.Errorf("%s: %s", what, found)
			}
		}
	})
}

func TestJoin(t *testing.T) {
	p := whole(t, phasestest.Cluster(t, phasestest.OneAndTwo()...))
	join := all.Join(p, []string{"w-2"})
	golden.Equal(t, "join.golden", text(join))
	if err := join.Check(); err != nil {
		t.Error(err)
	}
	for _, task := range join.Tasks {
		switch {
		case task.Host == "w-2":
		case task.Host == "cp-1" && task.For == "w-2":
		default:
			t.Errorf("%s is not about w-2", task.ID())
		}
	}
	for _, task := range p.Tasks {
		chosen := slices.ContainsFunc(join.Tasks, func(j plan.Task) bool { return j.ID() == task.ID() })
		if want := task.About() == "w-2"; chosen != want {
			t.Errorf("%s: chosen %t, want %t", task.ID(), chosen, want)
		}
	}
	if none := all.Join(p, nil); len(none.Tasks) != 0 {
		t.Errorf("joining nobody has tasks: %s", text(none))
	}
}

// A host's plan does not change when another host is added: joining touches
// nobody else. Only the waits of the control plane know all nodes.
func TestAddingAWorkerChangesNoOther(t *testing.T) {
	lines := phasestest.OneAndTwo()
	before := whole(t, phasestest.Cluster(t, lines[:3]...))
	after := whole(t, phasestest.Cluster(t, lines...))
	for _, was := range before.Tasks {
		i := slices.IndexFunc(after.Tasks, func(task plan.Task) bool { return task.ID() == was.ID() })
		if i < 0 {
			t.Errorf("%s is gone", was.ID())
			continue
		}
		if !reflect.DeepEqual(after.Tasks[i].Steps, was.Steps) {
			t.Errorf("%s has other steps:\n%s\n%s", was.ID(), was.Steps, after.Tasks[i].Steps)
		}
	}
}

func TestPlanWithFacts(t *testing.T) {
	c := phasestest.Cluster(t, phasestest.OneAndTwo()...)
	c.Facts = map[string]facts.Host{"w-1": {Resolver: "/run/systemd/resolve/resolv.conf"}}
	data, err := json.Marshal(all.Join(whole(t, c), []string{"w-1"}))
	if err != nil || !strings.Contains(string(data), "/run/systemd/resolve/resolv.conf") {
		t.Errorf("the kubelet of w-1 does not know its resolv.conf: %v", err)
	}
}

func TestPlanNamesWhatTheBundleLacks(t *testing.T) {
	for name := range phasestest.Built() {
		c := phasestest.Cluster(t, phasestest.OneAndTwo()...)
		b := phasestest.Built()
		delete(b, name)
		c.Artifacts = b
		_, err := all.Plan(c)
		needed := name != "agnhost" && name != "muster-node" // the sample's, and the operator's
		if needed != (err != nil) || (needed && !strings.Contains(err.Error(), name)) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// A plan of a thousand hosts is made and checked in the time a person does not
// notice.
func BenchmarkPlanOfThousandHosts(b *testing.B) {
	lines := []string{"network: {pods: [10.0.0.0/8], services: [172.16.0.0/16]}", "hosts:", "- {name: cp-1, address: 192.168.0.1, roles: [control-plane, etcd]}"}
	for i := 1; i < 1000; i++ {
		lines = append(lines, fmt.Sprintf("- {name: w-%d, address: 192.168.%d.%d, roles: [worker]}", i, 1+i/200, 1+i%200))
	}
	c := phasestest.Cluster(b, lines...)
	for b.Loop() {
		if _, err := all.Plan(c); err != nil {
			b.Fatal(err)
		}
	}
}

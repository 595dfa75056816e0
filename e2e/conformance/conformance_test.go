// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/e2e/bench/document"
	"github.com/muster-project/muster/internal/golden"
)

func readTestdata(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func someSpecs(t *testing.T) []spec {
	t.Helper()
	specs, err := parseSpecs(readTestdata(t, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	return specs
}

func names(specs []spec) []string {
	var all []string
	for _, s := range specs {
		all = append(all, s.name)
	}
	return all
}

const (
	basic    = "[sig-network] Services should serve a basic endpoint from pods [Conformance]"
	restart  = "[sig-network] Services should work after restarting kube-proxy [Disruptive]"
	granular = "[sig-network] Networking Granular Checks: Services should function for pod-Service: http"
	udp      = "[sig-network] Conntrack should be able to preserve UDP traffic"
	dual     = "[sig-network] [Feature:IPv6DualStack] should create service"
	dns      = "[sig-network] DNS should provide DNS for services [Conformance]"
)

func TestParseSpecs(t *testing.T) {
	specs := someSpecs(t)
	if want := []string{udp, dns, granular, basic, restart}; !slices.Equal(names(specs), want) {
		t.Errorf("specs %q, want %q", names(specs), want)
	}
	if specs[3].serial || !specs[4].serial {
		t.Error("a spec that disturbs others is serial, others are not")
	}
	if specs[2].group != "Networking" {
		t.Errorf("group %q", specs[2].group)
	}
	for _, bad := range []string{"", "[]", "{}", `[{"SpecReports":[]}]`} {
		if specs, err := parseSpecs([]byte(bad)); err == nil {
			t.Errorf("from %q: %v", bad, specs)
		}
	}
}

func TestChoose(t *testing.T) {
	if got, want := names(choose(someSpecs(t), false)), []string{basic, restart, udp, granular}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, want := range map[string]string{
		basic: "", dns: otherGroup,
		dual: "IPv4 only",
		"[sig-network] Networking should do [Feature:Networking-DNS]": "Internet",
	} {
		group, _, _ := strings.Cut(strings.TrimPrefix(name, area), " ")
		got := leftOut(spec{name: name, group: group}, false)
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: left out because %q, want %q", name, got, want)
		}
	}
	if got := leftOut(spec{name: dual, group: "[Feature:IPv6DualStack]"}, true); got != "" {
		t.Errorf("left out of a dual-stack cluster: %s", got)
	}
}

func TestOutcomes(t *testing.T) {
	raw := readTestdata(t, "report.json")
	want := []result{
		{Spec: udp, State: failed, Reason: "it was cut by this run's own -limit: A suite timeout occurred", At: "conntrack.go:218", Seconds: 600},
		// DNS was not come to.
		{Spec: granular, State: failed, Reason: "did not find expected responses | 3 tries", At: "utils.go:411", Seconds: 60},
		{Spec: basic, State: passed, Seconds: 12.5},
		{Spec: restart, State: skipped, Reason: "No pods of kube-proxy", At: "service.go:1209", Seconds: 2},
	}
	if got, err := outcomes(raw, someSpecs(t)); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
	if got, err := outcomes(raw, []spec{{name: "another"}}); err == nil {
		t.Errorf("a spec that the report does not have: %+v", got)
	}
}

// A suite whose set-up failed skips every spec; that is no skip by the spec.
func TestOutcomesOfFailedSetUp(t *testing.T) {
	raw := strings.Replace(string(readTestdata(t, "report.json")),
		`"LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "passed"`,
		`"LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "failed", "Failure": {"Message": "no nodes"}`, 1)
	got, err := outcomes([]byte(raw), []spec{{name: restart}, {name: basic}})
	if err != nil || len(got) != 2 || got[0].State != failed || got[1].Reason != "SynchronizedBeforeSuite: no nodes" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFocusMatchesTheseSpecsOnly(t *testing.T) {
	all := someSpecs(t)
	for from := range all {
		for to := from + 1; to <= len(all); to++ {
			re := regexp.MustCompile(focus(all[from:to]))
			for i, other := range all {
				// Ginkgo matches against the suite's description and the name.
				if got, want := re.MatchString("Kubernetes e2e suite "+other.name), i >= from && i < to; got != want {
					t.Errorf("the focus of %q matches %q: %v", names(all[from:to]), other.name, got)
				}
			}
		}
	}
}

func TestSection(t *testing.T) {
	results := map[string]result{}
	found, err := outcomes(readTestdata(t, "report.json"), someSpecs(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range found {
		one.Ended = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
		results[one.Spec] = one
	}
	delete(results, udp)
	where := (&work{bundle: "1.36.3+0123"}).describe(document.Place{
		Cores: 2, Model: "Example CPU", Kernel: "6.12.0", Load: "0.10, 0.20, 0.30", Commit: "0123456789ab",
	})
	out, err := render(where, someSpecs(t), results)
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "section.golden", out)
}

func TestResultsSurviveCuts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	first, err := openResults(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	add := func(r *results, one result) {
		t.Helper()
		if err := r.add(one); err != nil {
			t.Fatal(err)
		}
	}
	add(first, result{Spec: "a", State: failed, Reason: "why"})
	add(first, result{Spec: "b", State: passed})
	add(first, result{Spec: "a", State: passed})
	file := filepath.Join(dir, resultsName)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		if err := os.WriteFile(file, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := openResults(dir, false)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		before := again.all()
		add(again, result{Spec: "c", State: skipped})
		before["c"] = result{Spec: "c", State: skipped}
		third, err := openResults(dir, false)
		if err != nil || !maps.Equal(third.all(), before) {
			t.Fatalf("cut at %d: %v (%v), want %v", cut, third.all(), err, before)
		}
	}
	fresh, err := openResults(dir, true)
	if err != nil || len(fresh.all()) != 0 {
		t.Errorf("fresh: %v, %v", fresh.all(), err)
	}
}

func TestWithZones(t *testing.T) {
	const head = "cluster: conformance\nhosts:\n"
	const w1, w2 = "  - name: w-1\n", "  - name: w-2\n"
	const rest = "    roles: [worker]\n"
	got, err := withZones(head+w1+rest+w2+rest, map[string]string{"w-1": "a", "w-2": "b"})
	if want := head + w1 + "    zone: a\n" + rest + w2 + "    zone: b\n" + rest; err != nil || got != want {
		t.Errorf("%q (%v), want %q", got, err, want)
	}
	for _, bad := range []string{head + w2, head + w1 + w1} {
		if got, err := withZones(bad, map[string]string{"w-1": "a"}); err == nil {
			t.Errorf("from %q it made %q", bad, got)
		}
	}
}

// The tests and the cluster they test are of one version.
func TestVersionIsThatOfTheModule(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("suite", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "k8s.io/kubernetes v"+kubernetes+"\n") {
		t.Errorf("suite/go.mod does not require k8s.io/kubernetes v%s", kubernetes)
	}
}

func TestAptSources(t *testing.T) {
	dir := t.TempDir()
	if got, err := aptSources(dir); err == nil {
		t.Errorf("none: %q", got)
	}
	for _, name := range []string{"sources.list", "sources.list.d/debian.sources", "sources.list.d/off.sources.disabled"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{filepath.Join(dir, "sources.list"), filepath.Join(dir, "sources.list.d/debian.sources")}
	if got, err := aptSources(dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q (%v), want %q", got, err, want)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"run-c", "run-a", "run-b", "suite-x"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		used := time.Unix(int64(1000*i), 0)
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(dir, "run-*", 2); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if want := []string{"run-a", "run-b", "suite-x"}; !slices.Equal(names, want) {
		t.Errorf("%q are left, want %q", names, want)
	}
}

func TestParse(t *testing.T) {
	var sink strings.Builder
	if o, err := parse([]string{"-focus", "Services", "-at-once", "2"}, &sink); err != nil || !o.focus.MatchString("Services") || o.atOnce != 2 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-focus", "("}, {"-at-once", "0"}, {"-limit", "-1s"}, {"more"}, {"-budget", "0s"}} {
		if o, err := parse(bad, &sink); err == nil {
			t.Errorf("%q: %+v", bad, o)
		}
	}
}

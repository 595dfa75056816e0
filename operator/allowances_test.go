// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/muster-project/muster/phases/all"
	"github.com/muster-project/muster/phases/phasestest"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// A request comes back from the host as JSON has it, where nil and empty lists
// are alike; it is still the one that was allowed.
func TestRequestsSurviveTheJourney(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.1")
	empty := pki.Proxier("w-1")
	empty.DNSNames, empty.IPs = []string{}, []netip.Addr{}
	for _, r := range []pki.Request{
		pki.APIServer([]string{"kubernetes"}, []netip.Addr{address, netip.MustParseAddr("2001:db8::1")}), pki.EtcdPeer("db-1", address),
		pki.SuperAdmin(), pki.Approver(), pki.Flannel("w-1"), empty,
	} {
		var a allowances
		a.add(step.List{step.Certificate{Request: r}})
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back pki.Request
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if !a.certificate(back) {
			t.Errorf("%s: refused as %+v", data, back)
		}
		back.CommonName += "x"
		if a.certificate(back) {
			t.Errorf("allowed: %+v", back)
		}
	}
}

func TestAllowances(t *testing.T) {
	var a allowances
	if a.blob("") || a.token("") || a.certificate(pki.Request{}) {
		t.Error("nothing is allowed before there are steps")
	}
	a.add(step.List{
		step.Install{Blob: step.Blob{Compressed: "one"}}, step.Image{Blob: step.Blob{Compressed: "two"}}, step.Bootstrap{Node: "w-1"},
		step.File{Path: "/x"},
	})
	a.add(step.List{step.Install{Blob: step.Blob{Compressed: "three", SHA256: "four"}}})
	for sum, want := range map[string]bool{"one": true, "two": true, "three": true, "four": false, "": false} {
		if a.blob(sum) != want {
			t.Errorf("blob %q: %t", sum, !want)
		}
	}
	if !a.token("w-1") || a.token("w-2") || a.token("") {
		t.Error("a token is for the node of the step")
	}
}

// A kind of step that asks for a certificate or a blob is in allowances.add:
// every request and every blob of a whole plan may be asked for.
func TestStepsMayAskForWhatTheyHold(t *testing.T) {
	p, err := all.Plan(phasestest.Cluster(t, phasestest.OneAndTwo()...))
	if err != nil {
		t.Fatal(err)
	}
	requests, blobs := 0, 0
	for _, task := range p.Tasks {
		for _, s := range task.Steps {
			var a allowances
			a.add(step.List{s})
			v := reflect.ValueOf(s)
			for i := range v.NumField() {
				switch f := v.Field(i).Interface().(type) {
				case pki.Request:
					requests++
					if !a.certificate(f) {
						t.Errorf("%T: %s would be refused its certificate", s, s)
					}
				case step.Blob:
					blobs++
					if !a.blob(f.Compressed) {
						t.Errorf("%T: %s would be refused its blob", s, s)
					}
				}
			}
		}
	}
	if requests < 10 || blobs < 10 {
		t.Errorf("only %d requests and %d blobs looked at", requests, blobs)
	}
}

// SPDX-License-Identifier: Apache-2.0

package phases_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muster-project/muster/addons"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases/phasestest"
)

func TestPrograms(t *testing.T) {
	c := phasestest.Cluster(t, phasestest.OneAndTwo()...)
	steps, err := c.Programs("kubelet", "kubectl")
	if err != nil {
		t.Fatal(err)
	}
	multi := "[install /opt/muster/bin/kubernetes (3 MB, sha256 da6845a8d4ab) link /opt/muster/bin/kubelet -> kubernetes link /opt/muster/bin/kubectl -> kubernetes]"
	if got := fmt.Sprint(steps); got != multi {
		t.Errorf("multi-call: %s", got)
	}
	c.Artifacts = phasestest.Released()
	steps, err = c.Programs("kubelet")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(steps); !strings.HasPrefix(got, "[install /opt/muster/bin/kubelet (3 MB") || len(steps) != 1 {
		t.Errorf("release files: %s", got)
	}
	if _, err := c.Programs("kubeadm"); err == nil || !strings.Contains(err.Error(), "kubeadm") {
		t.Errorf("a program that no release has: %v", err)
	}
}

func TestImage(t *testing.T) {
	c := phasestest.Cluster(t, phasestest.OneAndTwo()...)
	if i, err := c.Image("pause"); err != nil || i.Ref != "muster.local/pause:1.0.0" || i.Blob.SHA256 == "" || i.Blob.Compressed == "" {
		t.Errorf("%+v, %v", i, err)
	}
	for _, name := range []string{"runc", "nothing"} {
		if _, err := c.Image(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServiceIP(t *testing.T) {
	dual := phasestest.Cluster(t, "network: {pods: [10.244.0.0/16, \"2001:db8:1::/48\"], services: [10.96.0.0/24, \"2001:db8:2::/120\"]}",
		"hosts: [{name: cp-1, address: [192.0.2.1, \"2001:db8::1\"], roles: [control-plane, etcd]}]")
	for n, want := range map[int]string{1: "[10.96.0.1 2001:db8:2::1]", 10: "[10.96.0.10 2001:db8:2::a]", 255: "[10.96.0.255 2001:db8:2::ff]"} {
		if got, err := dual.ServiceIP(n); err != nil || fmt.Sprint(got) != want {
			t.Errorf("number %d: %v, %v; want %s", n, got, err, want)
		}
	}
	if got, err := dual.ServiceIP(256); err == nil {
		t.Errorf("a /24 has no number 256: %v", got)
	}
}

func TestNodes(t *testing.T) {
	c := phasestest.Cluster(t, "hosts:", "- {name: cp-1, address: 192.0.2.1, roles: [control-plane]}",
		"- {name: db-1, address: 192.0.2.2, roles: [etcd]}", "- {name: w-1, address: 192.0.2.3, roles: [worker]}")
	var names []string
	for _, h := range c.Nodes() {
		names = append(names, h.Name)
	}
	if fmt.Sprint(names) != "[cp-1 w-1]" || c.ControlPlane().Name != "cp-1" || !c.ControlPlane().Has(inventory.ControlPlane) {
		t.Errorf("nodes %v, control plane %s", names, c.ControlPlane().Name)
	}
}

func TestObjectsGoIntoTheirCollections(t *testing.T) {
	c := phasestest.Cluster(t, phasestest.OneAndTwo()...)
	for want, o := range map[string]addons.Object{
		"/api/v1/namespaces/kube-system/services/a":           {APIVersion: "v1", Kind: "Service", Namespace: "kube-system", Name: "a"},
		"/api/v1/namespaces/a":                                {APIVersion: "v1", Kind: "Namespace", Name: "a"},
		"/apis/apps/v1/namespaces/x/deployments/a":            {APIVersion: "apps/v1", Kind: "Deployment", Namespace: "x", Name: "a"},
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/a":   {APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "a"},
		"/apis/policy/v1/namespaces/x/poddisruptionbudgets/a": {APIVersion: "policy/v1", Kind: "PodDisruptionBudget", Namespace: "x", Name: "a"},
	} {
		steps, err := c.Objects(addons.Addon{Objects: []addons.Object{o}})
		if err != nil || fmt.Sprint(steps) != "[object "+want+"]" {
			t.Errorf("%v, %v; want %s", steps, err, want)
		}
	}
	unknown := addons.Addon{Name: "x", Objects: []addons.Object{{APIVersion: "v1", Kind: "Gizmo", Name: "a"}}}
	if _, err := c.Objects(unknown); err == nil || !strings.Contains(err.Error(), "Gizmo") {
		t.Errorf("an unknown kind: %v", err)
	}
}

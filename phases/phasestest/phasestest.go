// SPDX-License-Identifier: Apache-2.0

// Package phasestest has what tests of phases plan from: a bundle without
// content and inventories of the usual clusters.
package phasestest

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
)

// Bundle is a catalogue of artifacts whose files nobody can open.
type Bundle map[string]bundle.Artifact

var _ phases.Artifacts = Bundle{}

// Lookup finds an artifact.
func (b Bundle) Lookup(name string) (bundle.Artifact, error) {
	a, ok := b[name]
	if !ok {
		return a, fmt.Errorf("the bundle has no artifact %s", name)
	}
	return a, nil
}

// KubernetesPrograms are what an official release has as files of their own.
func KubernetesPrograms() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"}
}

// Built is a bundle as muster builds it: Kubernetes is one multi-call binary.
func Built() Bundle {
	b := Bundle{}
	b.add("kubernetes", "kubernetes")
	b.kubernetes()
	for _, one := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "muster-etcd", "muster-node", "muster-proxier"} {
		b.add(one, one)
	}
	b.add("cni-plugins", "bridge", "host-local", "loopback", "portmap")
	b.add("flannel", "flanneld", "flannel")
	for _, image := range []string{"pause", "coredns", "agnhost"} {
		b.add(image, image+".tar")
		a := b[image]
		a.Kind, a.Ref = bundle.Image, "muster.local/"+image+":1.0.0"
		b[image] = a
	}
	return b
}

// Released is a bundle with the official release files of Kubernetes.
func Released() Bundle {
	b := Built()
	b.add("kubernetes", KubernetesPrograms()...)
	b.kubernetes()
	return b
}

// kubernetes gives the artifact the version that inventories ask for.
func (b Bundle) kubernetes() {
	a := b["kubernetes"]
	a.Version = kubernetesVersion
	b["kubernetes"] = a
}

const kubernetesVersion = "1.36.3"

func (b Bundle) add(name string, files ...string) {
	a := bundle.Artifact{Name: name, Version: "1.0.0", Kind: bundle.Binary, Group: bundle.Core}
	for _, f := range files {
		content := sum("content of " + f)
		a.Files = append(a.Files, bundle.File{
			Name: f, Mode: 0o755, SHA256: content, Size: 3 << 20, Blob: sum("blob of " + f), BlobSize: 1 << 20,
		})
	}
	b[name] = a
}

func sum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// Cluster is the cluster of an inventory, whose lines after apiVersion, cluster
// and kubernetes are given.
func Cluster(t testing.TB, lines ...string) phases.Cluster {
	t.Helper()
	text := "apiVersion: muster/v1\ncluster: demo\nkubernetes: " + kubernetesVersion + "\n" + strings.Join(lines, "\n") + "\n"
	inv, err := inventory.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return phases.Cluster{Inventory: inv, Artifacts: Built()}
}

// OneAndTwo is a control-plane host with etcd and two workers, in an order of
// the file.
func OneAndTwo() []string {
	return []string{
		"hosts:",
		"- {name: cp-1, address: 192.0.2.1, roles: [control-plane, etcd], zone: a}",
		"- {name: w-1, address: 192.0.2.11, roles: [worker], zone: a, labels: {disk: ssd}}",
		"- {name: w-2, address: 192.0.2.12, roles: [worker], zone: b, taints: [{key: gpu, value: \"yes\", effect: NoSchedule}]}",
	}
}

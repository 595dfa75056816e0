// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"time"

	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

const (
	kubeletCert = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	configMaps  = "/api/v1/namespaces/kube-system/configmaps"
	nodePath    = "/api/v1/nodes/w-1"
	rolloutPath = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
)

var admin = step.Credentials{Server: "https://127.0.0.1:6443", CA: pkiDir + "/ca.crt", Cert: pkiDir + "/admin.crt", Key: pkiDir + "/admin.key"}

func silentAPI(w world) { w.API.Fail = errSilent }

func apiSamples() []sample {
	return []sample{
		{
			kind: "object",
			make: func(world) step.Step {
				return step.Object{As: admin, Path: configMaps, Name: "muster-hosts", YAML: "apiVersion: v1\nkind: ConfigMap\ndata: {w-1: 10.0.0.21}\n"}
			},
			corrupt: map[string]func(world){
				"value": func(w world) { w.API.Set(configMaps+"/muster-hosts", "10.0.0.66", "data", "w-1") },
			},
			silence: silentAPI,
		},
		{
			kind:    "ready",
			make:    func(world) step.Step { return step.Ready{As: admin, Path: "/readyz", Timeout: time.Minute} },
			fulfil:  func(w world) { w.API.Put("/readyz", "ok") },
			silence: silentAPI,
		},
		{
			kind: "node-ready",
			make: func(w world) step.Step {
				w.API.Put(nodePath, `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"no CNI"}]}}`)
				return step.NodeReady{As: step.Credentials{Cert: kubeletCert}, Node: "w-1", Condition: "Ready", Timeout: time.Minute}
			},
			fulfil: func(w world) {
				w.Write(kubeletCert, 0o600, "")
				w.API.Put(nodePath, `{"status":{"conditions":[{"type":"DiskPressure","status":"False"},{"type":"Ready","status":"True"}]}}`)
			},
			corrupt: map[string]func(world){
				"not ready":     func(w world) { w.API.Put(nodePath, `{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`) },
				"no conditions": func(w world) { w.API.Put(nodePath, `{}`) },
			},
			silence: silentAPI,
		},
		{
			kind: "node-ready",
			make: func(w world) step.Step {
				w.Write(kubeletCert, 0o600, "")
				w.API.Put(nodePath, `{"spec":{}}`)
				return step.NodeReady{As: step.Credentials{Cert: kubeletCert}, Node: "w-1", Timeout: time.Minute}
			},
			fulfil:  func(w world) { w.API.Put(nodePath, `{"spec":{"podCIDR":"10.244.1.0/24"}}`) },
			silence: func(w world) { w.Remove(kubeletCert) },
		},
		{
			kind: "rollout",
			make: func(w world) step.Step {
				w.API.Put(rolloutPath, `{"status":{"availableReplicas":1}}`)
				return step.Rollout{As: admin, Namespace: "kube-system", Name: "coredns", Min: 2, Timeout: time.Minute}
			},
			fulfil:  func(w world) { w.API.Put(rolloutPath, `{"status":{"availableReplicas":2}}`) },
			corrupt: map[string]func(world){"none": func(w world) { w.API.Put(rolloutPath, `{"status":{}}`) }},
			silence: func(w world) { w.API.Put(rolloutPath, `{"status":`) },
		},
		bootstrapSample(),
		identitySample(),
		taintsSample(),
	}
}

func bootstrapSample() sample {
	const ca = pkiDir + "/ca.crt"
	joined := func(node string, life time.Duration) func(world) {
		return func(w world) {
			certify(w, kubeletCert, pki.Request{
				Name: "kubelet", CA: pki.Kubernetes, CommonName: "system:node:" + node, Organization: []string{"system:nodes"},
				Usages: []pki.Usage{pki.ClientAuth}, Validity: life,
			})
		}
	}
	return sample{
		kind: "bootstrap",
		make: func(w world) step.Step {
			trust(w, ca)
			w.Write(kubeletCert, 0o600, "of another cluster")
			w.Write("/etc/kubernetes/kubelet.conf", 0o600, "of another cluster")
			return step.Bootstrap{
				Node: "w-1", Server: "https://10.0.0.11:6443", CAPath: ca,
				Path: "/etc/kubernetes/bootstrap.conf", Config: "/etc/kubernetes/kubelet.conf",
			}
		},
		follows: joined("w-1", 24*time.Hour),
		corrupt: map[string]func(world){
			"gone":            func(w world) { w.Remove(kubeletCert) },
			"truncated":       func(w world) { truncate(w, kubeletCert) },
			"expired":         func(w world) { w.Clock = w.Clock.Add(25 * time.Hour) },
			"of another node": joined("w-2", time.Hour),
			"other CA": func(w world) {
				w.Operator.NewCA(pki.Kubernetes)
				trust(w, ca)
			},
		},
		silence: loop(kubeletCert),
	}
}

func identitySample() sample {
	const ca, config = pkiDir + "/ca.crt", "/etc/kubernetes/kubelet.conf"
	return sample{
		kind: "identity",
		make: func(w world) step.Step {
			trust(w, ca)
			w.Write(kubeletCert, 0o600, "of another cluster")
			return step.Identity{Request: pki.Kubelet("cp-1"), Server: "https://10.0.0.11:6443", CAPath: ca, Config: config}
		},
		corrupt: map[string]func(world){
			"gone":            func(w world) { w.Remove(kubeletCert) },
			"truncated":       func(w world) { truncate(w, kubeletCert) },
			"expired":         func(w world) { w.Clock = w.Clock.Add(2 * pki.LeafValidity) },
			"no kubeconfig":   func(w world) { w.Remove(config) },
			"of another node": func(w world) { certify(w, kubeletCert, pki.Kubelet("w-2")) },
			"other CA": func(w world) {
				w.Operator.NewCA(pki.Kubernetes)
				trust(w, ca)
			},
		},
		silence: loop(kubeletCert),
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package kubelet plans the kubelets: each joins by a short-lived bootstrap
// token, rotates its client certificate, and gets serving certificates that
// the cluster signed.
//
// On hosts it owns kubelet.service, /var/lib/kubelet, /etc/kubernetes/kubelet.conf,
// /etc/systemd/logind.conf.d/99-kubelet.conf, /usr/libexec/kubernetes, and the
// pods' logs in /var/log/pods and /var/log/containers.
package kubelet

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/cert"
	"github.com/muster-project/muster/phases/controlplane"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/phases/runtime"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the kubelet phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "kubelet" }

// About is the help text.
func (Phase) About() string { return "run the kubelets and have them join" }

// Task is the ID of a host's joined kubelet.
func Task(host string) plan.ID { return plan.Task{Host: host, Phase: "kubelet"}.ID() }

// Plan does every node.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) { return c.EachNode(p.host) }

func (p Phase) host(c phases.Cluster, h inventory.Host) ([]plan.Task, error) {
	programs, err := c.Programs("kubelet", "kubectl")
	if err != nil {
		return nil, err
	}
	service, err := service(c, h)
	if err != nil {
		return nil, err
	}
	announce, err := announce(c, h)
	if err != nil {
		return nil, err
	}
	label, err := label(c, h)
	if err != nil {
		return nil, err
	}
	cp := c.ControlPlane().Name
	install := plan.Task{Host: h.Name, Phase: p.Name(), Part: "install", Steps: programs, Needs: []plan.ID{preflight.Task(h.Name)}}
	if h.Name == cp {
		// Both bring the multi-call binary; the second finds it there.
		install.Needs = []plan.ID{controlplane.Installed(c)}
	}
	known := plan.Task{
		Host: cp, For: h.Name, Phase: p.Name(), Part: "announce-" + h.Name, Steps: step.List{announce},
		Needs: []plan.ID{controlplane.Ready(c)},
	}
	join := plan.Task{
		Host: h.Name, Phase: p.Name(), Steps: service,
		Needs: []plan.ID{install.ID(), known.ID(), cert.Task(h.Name), runtime.Task(h.Name)},
	}
	labels := plan.Task{
		Host: cp, For: h.Name, Phase: p.Name(), Part: "label-" + h.Name, Steps: step.List{label, keepTaints(c, h)}, Needs: []plan.ID{join.ID()},
	}
	return []plan.Task{install, known, join, labels}, nil
}

func service(c phases.Cluster, h inventory.Host) (step.List, error) {
	dns, err := c.ServiceIP(phases.DNSIndex)
	if err != nil {
		return nil, err
	}
	files, err := phases.Files(
		phases.PathAndTemplate{Path: templates.LogindPath, Template: templates.Logind{}},
		phases.PathAndTemplate{Path: templates.KubeletConfigPath, Template: templates.KubeletConfig{
			ClusterDNS: dns, Domain: c.Network.Domain, Taints: taints(h), ResolvConf: c.Facts[h.Name].Resolver,
		}},
		phases.PathAndTemplate{Path: phases.Unit(templates.KubeletService), Template: templates.KubeletUnit{
			Node: h.Name, NodeIPs: h.Addresses(),
		}},
	)
	if err != nil {
		return nil, err
	}
	ca := phases.PKI(pki.Kubernetes.CertFile())
	steps := step.List{step.Directory{Path: templates.KubeletDir, Mode: 0o750, Whole: true}}
	return append(append(steps, files...),
		credentials(c, h),
		step.Unit{
			Name: templates.KubeletService, Inputs: []string{templates.KubeletConfigPath, templates.BinDir + "/kubelet", ca},
			Leaves: []string{"/var/log/pods", "/var/log/containers", "/usr/libexec/kubernetes"},
		},
		step.NodeReady{As: c.AsKubelet(), Node: h.Name, Timeout: 3 * time.Minute},
	), nil
}

// credentials are what the kubelet joins with: a bootstrap token, or, on the
// host that has the CA, a certificate.
func credentials(c phases.Cluster, h inventory.Host) step.Step {
	ca := phases.PKI(pki.Kubernetes.CertFile())
	if h.Has(inventory.ControlPlane) {
		return step.Identity{Request: pki.Kubelet(h.Name), Server: c.Server(), CAPath: ca, Config: templates.KubeletConf}
	}
	return step.Bootstrap{
		Node: h.Name, Server: c.Server(), CAPath: ca, Path: templates.KubeletBootstrapConf, Config: templates.KubeletConf,
	}
}

// taints keeps workloads off a control-plane host that is not also a worker.
func taints(h inventory.Host) []templates.Taint {
	var all []templates.Taint
	if h.Has(inventory.ControlPlane) && !h.Has(inventory.Worker) {
		all = append(all, templates.ControlPlaneTaint())
	}
	for _, t := range h.Taints {
		all = append(all, templates.Taint(t))
	}
	return all
}

// keepTaints makes later changes of the file's taints; the kubelet gives them
// only when it registers.
func keepTaints(c phases.Cluster, h inventory.Host) step.Taints {
	all := []step.Taint{}
	for _, t := range taints(h) {
		all = append(all, step.Taint(t))
	}
	return step.Taints{As: c.AsAdmin(), Node: h.Name, Taints: all}
}

// object is what the two objects of this phase have; encoded it is a patch for
// a server-side apply that owns just these fields.
type object struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Data       map[string]string `json:"data,omitempty"`
}

type metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// announce writes down which addresses the host may have in its serving
// certificate. Each host's entry has a field manager of its own, so that
// joining one does not touch the others'.
func announce(c phases.Cluster, h inventory.Host) (step.Object, error) {
	var addresses []string
	for _, a := range h.Addresses() {
		addresses = append(addresses, a.String())
	}
	doc, err := yaml.Marshal(object{
		APIVersion: "v1", Kind: "ConfigMap", Metadata: metadata{Name: "muster-hosts", Namespace: "kube-system"},
		Data: map[string]string{h.Name: strings.Join(addresses, ",")}, // the form that agent/approver.Check reads
	})
	return step.Object{
		As: c.AsAdmin(), Path: "/api/v1/namespaces/kube-system/configmaps", Name: "muster-hosts",
		YAML: string(doc), Manager: step.FieldManager + "-" + h.Name,
	}, err
}

// label gives the node its labels, those included that its kubelet may not
// give itself (the NodeRestriction plugin forbids node-role.kubernetes.io).
func label(c phases.Cluster, h inventory.Host) (step.Object, error) {
	labels := maps.Clone(h.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	for _, r := range h.Roles {
		if r != inventory.Etcd {
			labels["node-role.kubernetes.io/"+string(r)] = ""
		}
	}
	if h.Zone != "" {
		labels["topology.kubernetes.io/zone"] = h.Zone
	}
	doc, err := yaml.Marshal(object{APIVersion: "v1", Kind: "Node", Metadata: metadata{Name: h.Name, Labels: labels}})
	if err != nil {
		return step.Object{}, fmt.Errorf("labels of %s: %w", h.Name, err)
	}
	return step.Object{As: c.AsAdmin(), Path: "/api/v1/nodes", Name: h.Name, YAML: strings.TrimSpace(string(doc))}, nil
}

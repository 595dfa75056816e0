// SPDX-License-Identifier: Apache-2.0

// Package cni plans the pod network: flannel as a unit on every node, which is
// there before any pod is, and the plugins that the runtime calls.
//
// On hosts it owns flanneld.service, /etc/muster/flannel.json, /opt/cni,
// /etc/cni/net.d, /var/lib/cni, /run/flannel, /run/muster-cni and the links
// flannel.1 and cni0.
package cni

import (
	"time"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/cert"
	"github.com/muster-project/muster/phases/kubelet"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/phases/proxier"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the cni phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "cni" }

// About is the help text.
func (Phase) About() string { return "run flannel and set the pod network up; nodes become Ready" }

// Ready is the task after which a node can run pods.
func Ready(host string) plan.ID { return plan.Task{Host: host, Phase: "cni", Part: "ready"}.ID() }

// Plan does every node.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) { return c.EachNode(p.host) }

func (p Phase) host(c phases.Cluster, h inventory.Host) ([]plan.Task, error) {
	programs, err := programs(c)
	if err != nil {
		return nil, err
	}
	steps, err := service(c, h)
	if err != nil {
		return nil, err
	}
	install := plan.Task{Host: h.Name, Phase: p.Name(), Part: "install", Steps: programs, Needs: []plan.ID{preflight.Task(h.Name)}}
	run := plan.Task{
		Host: h.Name, Phase: p.Name(), Steps: steps,
		Needs: []plan.ID{install.ID(), cert.Task(h.Name), kubelet.Task(h.Name)},
	}
	// A node that is Ready may be given pods at once: their Services must
	// be there too.
	ready := plan.Task{
		Host: h.Name, Phase: p.Name(), Part: "ready",
		Steps: step.List{step.NodeReady{As: c.AsKubelet(), Node: h.Name, Condition: "Ready", Timeout: 3 * time.Minute}},
		Needs: []plan.ID{run.ID(), proxier.Task(h.Name)},
	}
	return []plan.Task{install, run, ready}, nil
}

func programs(c phases.Cluster) (step.List, error) {
	plugins, err := c.Install("cni-plugins", templates.CNIBinDir)
	if err != nil {
		return nil, err
	}
	flannel, err := c.Install("flannel", templates.BinDir)
	if err != nil {
		return nil, err
	}
	steps := step.List{step.Directory{Path: "/opt/cni", Mode: 0o755, Whole: true}}
	return append(append(steps, plugins...), flannel...), nil
}

func service(c phases.Cluster, h inventory.Host) (step.List, error) {
	client := pki.Flannel(h.Name)
	kubeconfig, err := c.ClientConfig(templates.FlannelConf, client)
	if err != nil {
		return nil, err
	}
	unit := templates.FlanneldUnit{Node: h.Name, Addresses: h.Addresses()}
	files, err := phases.Files(
		phases.PathAndTemplate{Path: templates.FlannelNetConfPath, Template: templates.FlannelNetConf{Networks: c.Network.Pods}},
		phases.PathAndTemplate{Path: phases.Unit(templates.FlanneldService), Template: unit},
	)
	if err != nil {
		return nil, err
	}
	return append(append(step.List{kubeconfig}, files...), step.Unit{
		Name: templates.FlanneldService,
		Inputs: []string{
			templates.FlannelConf, templates.FlannelNetConfPath, templates.BinDir + "/flanneld",
			phases.PKI(client.CertFile()), phases.PKI(pki.Kubernetes.CertFile()),
		},
		Leaves: []string{templates.CNIConflistPath, "/run/flannel", "/run/muster-cni", "/var/lib/cni"},
	}), nil
}

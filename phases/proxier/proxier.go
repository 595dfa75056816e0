// SPDX-License-Identifier: Apache-2.0

// Package proxier plans the service proxy of every node. kube-proxy is not
// installed.
//
// On hosts it owns muster-proxier.service, /etc/muster/proxier.yaml,
// /etc/kubernetes/proxier.conf, /var/lib/muster-proxier and /run/muster-proxier;
// what the service puts into the kernel it takes away itself with --cleanup.
package proxier

import (
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

// Phase is the proxier phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "proxier" }

// About is the help text.
func (Phase) About() string { return "run muster-proxier, which carries Services with IPVS" }

// Task is the ID of a host's running proxier.
func Task(host string) plan.ID { return plan.Task{Host: host, Phase: "proxier"}.ID() }

// Plan does every node.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) { return c.EachNode(p.host) }

func (p Phase) host(c phases.Cluster, h inventory.Host) ([]plan.Task, error) {
	programs, err := c.Install("muster-proxier", templates.BinDir)
	if err != nil {
		return nil, err
	}
	steps, err := service(c, h)
	if err != nil {
		return nil, err
	}
	install := plan.Task{Host: h.Name, Phase: p.Name(), Part: "install", Steps: programs, Needs: []plan.ID{preflight.Task(h.Name)}}
	return []plan.Task{install, {
		Host: h.Name, Phase: p.Name(), Steps: steps,
		// The runtime phase has loaded the kernel's side.
		Needs: []plan.ID{install.ID(), cert.Task(h.Name), runtime.Task(h.Name), controlplane.Ready(c)},
	}}, nil
}

func service(c phases.Cluster, h inventory.Host) (step.List, error) {
	client := pki.Proxier(h.Name)
	kubeconfig, err := c.ClientConfig(templates.ProxierConf, client)
	if err != nil {
		return nil, err
	}
	files, err := phases.Files(
		phases.PathAndTemplate{Path: templates.ProxierConfigPath, Template: templates.ProxierConfig{Node: h.Name, PodCIDRs: c.Network.Pods}},
		phases.PathAndTemplate{Path: phases.Unit(templates.ProxierService), Template: templates.ProxierUnit{NodeIPs: h.Addresses()}},
	)
	if err != nil {
		return nil, err
	}
	return append(append(step.List{kubeconfig}, files...), step.Unit{
		Name: templates.ProxierService,
		Inputs: []string{
			templates.ProxierConf, templates.ProxierConfigPath, templates.BinDir + "/muster-proxier",
			phases.PKI(client.CertFile()), phases.PKI(pki.Kubernetes.CertFile()),
		},
		Leaves: []string{"/var/lib/muster-proxier", "/run/muster-proxier"},
	}), nil
}

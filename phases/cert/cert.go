// SPDX-License-Identifier: Apache-2.0

// Package cert plans the cluster's authorities and certificates.
//
// On hosts it owns /etc/kubernetes/pki. The CA keys are made on the
// control-plane host and stay there; every other key is made on the host that
// uses it, and only a CSR travels.
package cert

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the cert phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "cert" }

// About is the help text.
func (Phase) About() string {
	return "make the CAs on the control-plane host and a certificate for each program"
}

// Task is the ID of a host's certificates.
func Task(host string) plan.ID { return plan.Task{Host: host, Phase: "cert"}.ID() }

// Plan makes the authorities, then each host's certificates.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) {
	authorities := p.authorities(c)
	tasks := []plan.Task{authorities}
	for _, h := range c.Hosts {
		steps, err := leaves(c, h)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, plan.Task{
			Host: h.Name, Phase: p.Name(), Steps: steps,
			Needs: []plan.ID{preflight.Task(h.Name), authorities.ID()},
		})
	}
	return tasks, nil
}

func folders() step.List {
	return step.List{
		step.Directory{Path: templates.KubernetesDir, Mode: 0o755, Whole: true},
		step.Directory{Path: templates.PKIDir, Mode: 0o755},
		step.Directory{Path: templates.PKIDir + "/etcd", Mode: 0o755},
	}
}

func (p Phase) authorities(c phases.Cluster) plan.Task {
	cp := c.ControlPlane().Name
	steps := append(folders(), step.User{Name: templates.KubeUser})
	for _, ca := range pki.CAs() {
		owner := ""
		if ca == pki.Kubernetes {
			owner = templates.KubeUser // the controller manager signs kubelets' certificates
		}
		steps = append(steps, step.Authority{
			CA: ca, CertPath: phases.PKI(ca.CertFile()), KeyPath: phases.PKI(ca.KeyFile()), Owner: owner,
		})
	}
	steps = append(steps, step.SigningKey{
		PrivatePath: phases.PKI(pki.ServiceAccountKeyFile), PublicPath: phases.PKI(pki.ServiceAccountPubFile),
		Owner: templates.KubeUser,
	})
	return plan.Task{
		Host: cp, Phase: p.Name(), Part: "authorities", Steps: steps,
		Needs: []plan.ID{preflight.Task(cp)},
	}
}

// leaves are the certificates of one host, by its roles.
func leaves(c phases.Cluster, h inventory.Host) (step.List, error) {
	steps := folders()
	isControlPlane := h.Has(inventory.ControlPlane)
	trust := func(ca pki.CA) {
		if !isControlPlane { // which has the CA itself
			steps = append(steps, step.Trust{CA: ca, Path: phases.PKI(ca.CertFile())})
		}
	}
	if h.Has(inventory.Etcd) {
		trust(pki.Etcd)
		steps = append(steps, step.User{Name: templates.EtcdUser},
			phases.Leaf(pki.EtcdServer(h.Name, h.Address), templates.EtcdUser),
			phases.Leaf(pki.EtcdPeer(h.Name, h.Address), templates.EtcdUser),
			phases.Leaf(pki.EtcdHealthClient(), templates.EtcdUser))
	}
	if isControlPlane {
		control, err := controlPlane(c, h)
		if err != nil {
			return nil, err
		}
		steps = append(steps, control...)
	}
	if isControlPlane || h.Has(inventory.Worker) {
		trust(pki.Kubernetes)
		steps = append(steps, phases.Leaf(pki.Proxier(h.Name), ""), phases.Leaf(pki.Flannel(h.Name), ""))
	}
	return steps, nil
}

func controlPlane(c phases.Cluster, h inventory.Host) (step.List, error) {
	ips, err := c.ServiceIP(1)
	if err != nil {
		return nil, err
	}
	endpoint, err := endpointHost(c)
	if err != nil {
		return nil, err
	}
	names := append(pki.APIServerNames(c.Network.Domain), h.Name)
	ips = append(ips, h.Addresses()...)
	for _, extra := range append([]string{endpoint}, c.API.Names...) {
		if ip, err := netip.ParseAddr(extra); err == nil {
			ips = append(ips, ip)
		} else {
			names = append(names, extra)
		}
	}
	var steps step.List
	for _, r := range []pki.Request{
		pki.APIServer(names, ips), pki.APIServerKubeletClient(), pki.APIServerEtcdClient(), pki.FrontProxyClient(),
		pki.ControllerManager(), pki.Scheduler(),
	} {
		steps = append(steps, phases.Leaf(r, templates.KubeUser))
	}
	return append(steps, phases.Leaf(pki.SuperAdmin(), ""), phases.Leaf(pki.Approver(), "")), nil
}

// endpointHost is where operators reach the API, without its port.
func endpointHost(c phases.Cluster) (string, error) {
	host, _, err := net.SplitHostPort(c.API.Endpoint)
	if err != nil {
		return "", fmt.Errorf("the inventory's api.endpoint: %w", err)
	}
	return host, nil
}

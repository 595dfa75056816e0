// SPDX-License-Identifier: Apache-2.0

// Package controlplane plans the API server, the controller manager, the
// scheduler, what muster itself needs in the API, and the approver of
// kubelets' serving certificates.
//
// On hosts it owns kube-apiserver.service, kube-controller-manager.service,
// kube-scheduler.service, muster-approver.service and files in /etc/kubernetes.
package controlplane

import (
	"time"

	"github.com/muster-project/muster/addons"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/cert"
	"github.com/muster-project/muster/phases/etcd"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the control-plane phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "control-plane" }

// About is the help text.
func (Phase) About() string {
	return "run the API server, the controller manager and the scheduler as units"
}

// Ready is the task after which the API answers and has muster's roles in it.
func Ready(c phases.Cluster) plan.ID {
	return plan.Task{Host: c.ControlPlane().Name, Phase: "control-plane", Part: "objects"}.ID()
}

// Installed is the task that brings the Kubernetes programs.
func Installed(c phases.Cluster) plan.ID {
	return plan.Task{Host: c.ControlPlane().Name, Phase: "control-plane", Part: "install"}.ID()
}

// Plan installs and starts the control plane.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) {
	cp := c.ControlPlane().Name
	programs, err := c.Programs("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
	if err != nil {
		return nil, err
	}
	server, err := apiServer(c)
	if err != nil {
		return nil, err
	}
	controllers, err := controllers(c)
	if err != nil {
		return nil, err
	}
	scheduler, err := scheduler(c)
	if err != nil {
		return nil, err
	}
	objects, err := objects(c)
	if err != nil {
		return nil, err
	}
	task := func(part string, steps step.List, needs ...plan.ID) plan.Task {
		return plan.Task{Host: cp, Phase: p.Name(), Part: part, Steps: steps, Needs: needs}
	}
	install := task("install", programs, preflight.Task(cp))
	api := task("", server, append(etcd.Tasks(c), install.ID(), cert.Task(cp))...)
	// Nodes wait for the controllers, which take longest to begin: they build
	// fifty, one after the other, before the first one runs. The scheduler is
	// only needed once there are pods.
	ready := task("objects", objects, api.ID())
	return []plan.Task{
		install, api,
		task("controllers", controllers, api.ID()),
		ready,
		task("scheduler", scheduler, ready.ID()),
	}, nil
}

func apiServer(c phases.Cluster) (step.List, error) {
	files, err := phases.Files(
		phases.PathAndTemplate{Path: templates.AuthenticationPath, Template: templates.Authentication{}},
		phases.PathAndTemplate{Path: phases.Unit(templates.APIServerService), Template: templates.APIServerUnit{
			AdvertiseAddress: c.ControlPlane().Address, Port: phases.APIPort, EtcdServers: etcd.ClientURLs(c),
			ServiceCIDRs: c.Network.Services, Domain: c.Network.Domain,
		}},
	)
	if err != nil {
		return nil, err
	}
	inputs := []string{templates.BinDir + "/kube-apiserver", templates.AuthenticationPath, phases.PKI(pki.ServiceAccountPubFile)}
	// Kubernetes reloads its serving and client certificates by itself; the
	// files that it reads once are the CAs and keys.
	for _, ca := range pki.CAs() {
		inputs = append(inputs, phases.PKI(ca.CertFile()))
	}
	return append(files,
		step.Unit{Name: templates.APIServerService, Inputs: inputs},
		step.Ready{As: c.AsAdmin(), Path: "/readyz", Timeout: 3 * time.Minute},
	), nil
}

func controllers(c phases.Cluster) (step.List, error) {
	kubeconfig, err := c.ClientConfig(templates.ControllerManagerConf, pki.ControllerManager())
	if err != nil {
		return nil, err
	}
	unit, err := phases.File(phases.Unit(templates.ControllerManagerService), templates.ControllerManagerUnit{
		Cluster: c.Cluster(), PodCIDRs: c.Network.Pods, ServiceCIDRs: c.Network.Services, Alone: true,
	})
	if err != nil {
		return nil, err
	}
	return step.List{kubeconfig, unit, step.Unit{Name: templates.ControllerManagerService, Inputs: []string{
		templates.BinDir + "/kube-controller-manager", templates.ControllerManagerConf, phases.PKI(pki.Kubernetes.CertFile()),
	}}}, nil
}

func scheduler(c phases.Cluster) (step.List, error) {
	kubeconfig, err := c.ClientConfig(templates.SchedulerConf, pki.Scheduler())
	if err != nil {
		return nil, err
	}
	files, err := phases.Files(
		phases.PathAndTemplate{Path: templates.SchedulerConfigPath, Template: templates.SchedulerConfig{Alone: true}},
		phases.PathAndTemplate{Path: phases.Unit(templates.SchedulerService), Template: templates.SchedulerUnit{}},
	)
	if err != nil {
		return nil, err
	}
	return append(append(step.List{kubeconfig}, files...), step.Unit{Name: templates.SchedulerService, Inputs: []string{
		templates.BinDir + "/kube-scheduler", templates.SchedulerConf, templates.SchedulerConfigPath,
		phases.PKI(pki.Kubernetes.CertFile()),
	}}), nil
}

// objects are the roles that hosts need to join, and the approver.
func objects(c phases.Cluster) (step.List, error) {
	var steps step.List
	for _, addon := range []func() (addons.Addon, error){addons.BootstrapRBAC, addons.FlannelRBAC, addons.ApproverRBAC} {
		a, err := addon()
		if err != nil {
			return nil, err
		}
		objects, err := c.Objects(a)
		if err != nil {
			return nil, err
		}
		steps = append(steps, objects...)
	}
	unit, err := phases.File(phases.Unit(templates.ApproverService), templates.ApproverUnit{Server: c.Server()})
	if err != nil {
		return nil, err
	}
	approver := pki.Approver()
	return append(steps, unit, step.Unit{Name: templates.ApproverService, Inputs: []string{
		templates.BinDir + "/muster-node", phases.PKI(approver.CertFile()), phases.PKI(pki.Kubernetes.CertFile()),
	}}), nil
}

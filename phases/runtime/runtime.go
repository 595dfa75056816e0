// SPDX-License-Identifier: Apache-2.0

// Package runtime plans the container runtime: kernel features and settings,
// containerd with runc and the stock shim, and the image of pod sandboxes.
//
// On hosts it owns containerd.service, /etc/containerd, /var/lib/containerd,
// /run/containerd, /opt/containerd, /run/runc, /etc/cni, which containerd
// watches, and /etc/sysctl.d/90-muster.conf and /etc/modules-load.d/muster.conf
// with what they set.
package runtime

import (
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the runtime phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "runtime" }

// About is the help text.
func (Phase) About() string { return "prepare the kernel and run containerd" }

// Task is the ID of a host's running runtime.
func Task(host string) plan.ID { return plan.Task{Host: host, Phase: "runtime"}.ID() }

// Plan does every node.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) { return c.EachNode(p.host) }

func (p Phase) host(c phases.Cluster, h inventory.Host) ([]plan.Task, error) {
	programs, err := programs(c)
	if err != nil {
		return nil, err
	}
	service, err := service(c)
	if err != nil {
		return nil, err
	}
	kernel, err := kernel(c)
	if err != nil {
		return nil, err
	}
	install := plan.Task{
		Host: h.Name, Phase: p.Name(), Part: "install", Steps: programs, Needs: []plan.ID{preflight.Task(h.Name)},
	}
	run := plan.Task{Host: h.Name, Phase: p.Name(), Steps: append(kernel, service...), Needs: []plan.ID{install.ID()}}
	return []plan.Task{install, run}, nil
}

func programs(c phases.Cluster) (step.List, error) {
	var steps step.List
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		s, err := c.Install(name, templates.BinDir)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s...)
	}
	return steps, nil
}

// probes tell whether a kernel feature is there, loaded or built in. Modules
// without a probe are loaded by the kernel when they are first used, and again
// at boot by modules-load.d.
var probes = map[string]string{
	"overlay":      "/proc/filesystems:overlay",
	"br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables",
	"nf_conntrack": "/proc/sys/net/netfilter/nf_conntrack_max",
	"ip_vs":        "/proc/net/ip_vs",
}

func kernel(c phases.Cluster) (step.List, error) {
	modules, settings := templates.Modules{}, templates.Sysctl{IPv6: hasIPv6(c)}
	steps, err := phases.Files(
		phases.PathAndTemplate{Path: templates.ModulesLoadPath, Template: modules},
		phases.PathAndTemplate{Path: templates.SysctlPath, Template: settings},
	)
	if err != nil {
		return nil, err
	}
	for _, m := range modules.List() {
		if probe, ok := probes[m.Name]; ok {
			steps = append(steps, step.Module{Name: m.Name, Probe: probe})
		}
	}
	for _, s := range settings.Settings() {
		steps = append(steps, step.Sysctl{Key: s.Key, Value: s.Value, Optional: s.Optional})
	}
	return steps, nil
}

func hasIPv6(c phases.Cluster) bool {
	for _, p := range c.Network.Pods {
		if p.Addr().Is6() {
			return true
		}
	}
	return false
}

func service(c phases.Cluster) (step.List, error) {
	pause, err := c.Image("pause")
	if err != nil {
		return nil, err
	}
	files, err := phases.Files(
		phases.PathAndTemplate{Path: templates.ContainerdConfigPath, Template: templates.ContainerdConfig{SandboxImage: pause.Ref}},
		phases.PathAndTemplate{Path: phases.Unit(templates.ContainerdService), Template: templates.ContainerdUnit{}},
	)
	if err != nil {
		return nil, err
	}
	steps := step.List{step.Directory{Path: "/etc/containerd", Mode: 0o755, Whole: true}}
	return append(append(steps, files...), step.Unit{
		Name:   templates.ContainerdService,
		Inputs: []string{templates.ContainerdConfigPath, templates.BinDir + "/containerd"},
		Leaves: []string{"/var/lib/containerd", "/run/containerd", "/opt/containerd", "/run/runc", "/etc/cni"},
	}, pause), nil
}

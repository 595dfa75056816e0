// SPDX-License-Identifier: Apache-2.0

// Package all has the list of phases: the first file to read. The order is
// that of `muster phase` and of the reports; what really waits for what is in
// the tasks.
package all

import (
	"fmt"
	"slices"

	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/cert"
	"github.com/muster-project/muster/phases/cni"
	"github.com/muster-project/muster/phases/controlplane"
	"github.com/muster-project/muster/phases/coredns"
	"github.com/muster-project/muster/phases/etcd"
	"github.com/muster-project/muster/phases/kubelet"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/phases/proxier"
	"github.com/muster-project/muster/phases/runtime"
	"github.com/muster-project/muster/plan"
)

// Phases is everything that an install does.
func Phases() []phases.Phase {
	return []phases.Phase{
		preflight.Phase{},
		cert.Phase{},
		etcd.Phase{},
		controlplane.Phase{},
		runtime.Phase{},
		kubelet.Phase{},
		proxier.Phase{},
		cni.Phase{},
		coredns.Phase{},
	}
}

// Plan is the whole install.
func Plan(c phases.Cluster) (plan.Plan, error) {
	p := plan.Plan{Cluster: c.Cluster()}
	for _, phase := range Phases() {
		tasks, err := phase.Plan(c)
		if err != nil {
			return plan.Plan{}, fmt.Errorf("plan %s: %w", phase.Name(), err)
		}
		p.Tasks = append(p.Tasks, tasks...)
	}
	return p, p.Check()
}

// Join restricts a plan to what some hosts need to become part of the
// cluster: their own tasks, and those elsewhere that are about them.
func Join(p plan.Plan, hosts []string) plan.Plan {
	return p.Only(func(t plan.Task) bool { return slices.Contains(hosts, t.About()) })
}

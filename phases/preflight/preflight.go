// SPDX-License-Identifier: Apache-2.0

// Package preflight judges hosts before anything is done to them, and claims
// them for the cluster.
//
// On hosts it owns /opt/muster and /etc/muster.
package preflight

import (
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the preflight phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "preflight" }

// About is the help text.
func (Phase) About() string { return "check that hosts can carry a cluster, and claim them for it" }

// Plan claims each host: a host that carries one cluster's mark is refused to
// another cluster by Check.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) {
	var tasks []plan.Task
	for _, h := range c.Hosts {
		tasks = append(tasks, plan.Task{Host: h.Name, Phase: p.Name(), Steps: step.List{
			step.Directory{Path: templates.ConfigDir, Mode: 0o755, Whole: true},
			step.File{Path: facts.ClusterFile, Mode: 0o644, Data: Mark(c.Inventory, h)},
			step.Directory{Path: templates.BinDir, Mode: 0o755},
		}})
	}
	return tasks, nil
}

// Task is the ID of a host's claim.
func Task(host string) plan.ID { return plan.Task{Host: host, Phase: "preflight"}.ID() }

// SPDX-License-Identifier: Apache-2.0

// Package sample plans a sample Deployment behind a Service: the first thing
// to run in a new cluster, offline too. It is no part of an install, so it is
// not in the list of phases.
package sample

import (
	"net/netip"
	"time"

	"github.com/muster-project/muster/addons"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// Name is the phase's name in task IDs.
const Name = "sample"

// NodePort is where every node answers for the sample.
const NodePort = addons.SampleNodePort

// Plan brings the image to every node, applies the objects and waits until the
// Service answers on every node.
func Plan(c phases.Cluster) (plan.Plan, error) {
	image, err := c.Image("agnhost")
	if err != nil {
		return plan.Plan{}, err
	}
	addon, err := addons.Sample(image.Ref)
	if err != nil {
		return plan.Plan{}, err
	}
	objects, err := c.Objects(addon)
	if err != nil {
		return plan.Plan{}, err
	}
	apply := plan.Task{Host: c.ControlPlane().Name, Phase: Name, Steps: append(objects,
		step.Rollout{As: c.AsAdmin(), Namespace: "default", Name: "hello", Min: 1, Timeout: 2 * time.Minute})}
	p := plan.Plan{Cluster: c.Cluster()}
	for _, h := range c.Nodes() {
		load := plan.Task{Host: h.Name, Phase: Name, Part: "image", Steps: step.List{image}}
		if h.Has(inventory.Worker) { // where its pods may run
			apply.Needs = append(apply.Needs, load.ID())
			p.Tasks = append(p.Tasks, load)
		}
	}
	p.Tasks = append(p.Tasks, apply)
	for _, h := range c.Nodes() {
		p.Tasks = append(p.Tasks, plan.Task{
			Host: h.Name, Phase: Name, Part: "answers", Needs: []plan.ID{apply.ID()},
			Steps: step.List{step.Answers{URL: "http://" + netip.AddrPortFrom(h.Address, NodePort).String() + "/hostname", Timeout: time.Minute}},
		})
	}
	return p, p.Check()
}

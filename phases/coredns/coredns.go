// SPDX-License-Identifier: Apache-2.0

// Package coredns plans the cluster's DNS: two replicas spread over the nodes,
// applied to the API; it owns nothing on hosts.
package coredns

import (
	"net/netip"
	"time"

	"github.com/muster-project/muster/addons"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/cni"
	"github.com/muster-project/muster/phases/runtime"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// Phase is the coredns phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "coredns" }

// About is the help text.
func (Phase) About() string { return "run CoreDNS and wait until it answers" }

// Plan applies the add-on once every node is Ready, and waits until a name
// resolves.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) {
	artifact, err := c.Artifacts.Lookup("coredns")
	if err != nil {
		return nil, err
	}
	image, err := c.Image("coredns")
	if err != nil {
		return nil, err
	}
	dns, err := c.ServiceIP(phases.DNSIndex)
	if err != nil {
		return nil, err
	}
	addon, err := addons.CoreDNS(addons.CoreDNSInput{
		Version: artifact.Version, Image: artifact.Ref, ClusterIPs: dns, Domain: c.Network.Domain,
	})
	if err != nil {
		return nil, err
	}
	steps, err := c.Objects(addon)
	if err != nil {
		return nil, err
	}
	apply := plan.Task{Host: c.ControlPlane().Name, Phase: p.Name(), Steps: steps}
	answers := plan.Task{
		Host: c.ControlPlane().Name, Phase: p.Name(), Part: "answers",
		Steps: step.List{
			step.Rollout{As: c.AsAdmin(), Namespace: "kube-system", Name: "coredns", Min: 1, Timeout: 3 * time.Minute},
			step.Resolves{
				Server: netip.AddrPortFrom(dns[0], 53), Name: "kubernetes.default.svc." + c.Network.Domain + ".", Timeout: time.Minute,
			},
		},
		Needs: []plan.ID{apply.ID()},
	}
	var tasks []plan.Task
	for _, h := range c.Nodes() {
		// Every node has the image: a replica may be moved anywhere, and there
		// may be no registry to pull it from. It is not needed for a node to be
		// Ready, so it is brought last.
		load := plan.Task{
			Host: h.Name, Phase: p.Name(), Part: "image", Steps: step.List{image}, Needs: []plan.ID{runtime.Task(h.Name)},
		}
		tasks = append(tasks, load)
		// The scheduler spreads over the nodes that can take pods at that
		// moment; applied earlier, both replicas would be on the fastest.
		apply.Needs = append(apply.Needs, cni.Ready(h.Name), load.ID())
	}
	return append(tasks, apply, answers), nil
}

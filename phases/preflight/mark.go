// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"

	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/inventory"
)

// Mark is what a host keeps of the inventory it was installed from: the
// cluster's name, and what cannot be changed in a running cluster. It is how a
// later file is known to be of the same cluster, and its edits to be harmless:
// an etcd role that moves to another host would begin with an empty database.
func Mark(inv inventory.Inventory, h inventory.Host) string {
	var mark strings.Builder
	for _, line := range [][2]string{
		{facts.MarkCluster, inv.Cluster},
		{"host", h.Name},
		{"address", list(h.Addresses())},
		{"control plane", names(inv.WithRole(inventory.ControlPlane))},
		{"etcd", names(inv.WithRole(inventory.Etcd))},
		{"pods", list(inv.Network.Pods)},
		{"services", list(inv.Network.Services)},
		{"domain", inv.Network.Domain},
		{"cni", inv.Network.CNI},
	} {
		fmt.Fprintf(&mark, "%s: %s\n", line[0], line[1])
	}
	return mark.String()
}

func names(hosts []inventory.Host) string {
	var all []string
	for _, h := range hosts {
		all = append(all, h.Name)
	}
	return strings.Join(all, ", ")
}

func list[T fmt.Stringer](values []T) string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return strings.Join(all, ", ")
}

// changed lists what the mark of a host of this cluster has otherwise than the
// inventory.
func changed(s subject) string {
	if !ours(s) || s.facts.Mark == "" {
		return ""
	}
	has := strings.Split(strings.TrimSpace(s.facts.Mark), "\n")
	wants := strings.Split(strings.TrimSpace(s.mark), "\n")
	var differences []string
	for i, want := range wants {
		if i < len(has) && has[i] != want {
			differences = append(differences, fmt.Sprintf("it has %q, the file %q", has[i], want))
		}
	}
	return strings.Join(differences, "; ")
}

// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// CoreDNSInput is what the cluster's DNS depends on.
type CoreDNSInput struct {
	// Version is CoreDNS' own: 1.15.0.
	Version string
	// Image must be on the nodes, or be pullable.
	Image string
	// ClusterIPs are the addresses of the Service kube-dns, one per family;
	// kubelets hand the same ones to pods.
	ClusterIPs []netip.Addr
	// Domain is the cluster's: cluster.local.
	Domain string
	// Replicas is the wanted number; 0 means 2.
	Replicas int
}

// CoreDNS is the cluster's DNS: names of Services (A, AAAA, SRV, headless) and
// of pods, and the host's resolver for everything else.
//
// Pod records are `verified`: 10-244-1-7.default.pod.cluster.local is answered
// only when such a pod exists. The cheaper `insecure` turns any address into
// a name below the cluster's domain, which is how wildcard certificates for
// that domain get abused (https://coredns.io/plugins/kubernetes/); the price
// of `verified` is a watch on all pods, about 1 KB of memory for each.
func CoreDNS(in CoreDNSInput) (Addon, error) {
	var errs []error
	if in.Image == "" || in.Version == "" || in.Domain == "" {
		errs = append(errs, fmt.Errorf("image %q, version %q and domain %q must all be there", in.Image, in.Version, in.Domain))
	}
	// The domain stands in the Corefile as it is.
	if strings.ContainsAny(in.Domain, " \t\r\n{}\"#$") {
		errs = append(errs, fmt.Errorf("domain %q is not a DNS name", in.Domain))
	}
	if len(in.ClusterIPs) == 0 {
		errs = append(errs, errors.New("no cluster IP"))
	}
	if err := errors.Join(errs...); err != nil {
		return Addon{}, fmt.Errorf("add-on coredns: %w", err)
	}
	if in.Replicas == 0 {
		in.Replicas = 2
	}
	objects, err := load("coredns.yaml", in)
	if err != nil {
		return Addon{}, err
	}
	return Addon{Name: "coredns", Version: in.Version, Images: []string{in.Image}, Objects: objects}, nil
}

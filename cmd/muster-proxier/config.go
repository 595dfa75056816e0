// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/proxier"
)

// config is what is used of a KubeProxyConfiguration.
type config struct {
	proxier.Config
	kubeconfig string // empty: the pod's own credentials
	healthz    string // host:port
	metrics    string // host:port
	nodeAddrs  []netip.Addr
	ignored    []string // fields that are set and have no effect
}

// Defaults are kube-proxy's, but for nodePortAddresses: unset means the
// node's primary addresses, as in its nftables mode, not every local one.
const (
	defaultHealthz = "0.0.0.0:10256"
	defaultMetrics = "127.0.0.1:10249"
)

// usedFields are the ones read here; any other that is set is reported.
var usedFields = [...]string{
	"apiVersion", "kind", "mode", "clientConnection.kubeconfig", "hostnameOverride", "clusterCIDR", "nodePortAddresses",
	"healthzBindAddress", "metricsBindAddress", "ipvs.scheduler", "bindAddress",
}

// parseConfig reads the file. Unknown keys and wrong values are all reported
// at once.
func parseConfig(data []byte, hostname func() (string, error)) (config, error) {
	var in kubeproxy.KubeProxyConfiguration
	if err := yaml.UnmarshalStrict(data, &in); err != nil {
		return config{}, err
	}
	out := config{
		kubeconfig: in.ClientConnection.Kubeconfig,
		healthz:    orDefault(in.HealthzBindAddress, defaultHealthz),
		metrics:    orDefault(in.MetricsBindAddress, defaultMetrics),
		Config:     proxier.Config{Node: strings.ToLower(in.HostnameOverride), Scheduler: orDefault(in.IPVS.Scheduler, "rr")},
	}
	var faults faults
	if in.APIVersion != "kubeproxy.config.k8s.io/v1alpha1" || in.Kind != "KubeProxyConfiguration" {
		faults.add("apiVersion, kind: %q, %q: not kubeproxy.config.k8s.io/v1alpha1, KubeProxyConfiguration", in.APIVersion, in.Kind)
	}
	if in.Mode != "" && in.Mode != "ipvs" {
		faults.add("mode: %q: this program is ipvs only", in.Mode)
	}
	if !slices.Contains(schedulers(), out.Scheduler) {
		faults.add("ipvs.scheduler: %q: not one of %s", out.Scheduler, strings.Join(schedulers(), ", "))
	}
	out.PodCIDRs = faults.prefixes("clusterCIDR", strings.FieldsFunc(in.ClusterCIDR, func(r rune) bool { return r == ',' }))
	if !slices.Equal(in.NodePortAddresses, []string{"primary"}) {
		out.NodePorts = faults.prefixes("nodePortAddresses", in.NodePortAddresses)
	}
	faults.addrPort("healthzBindAddress", out.healthz)
	faults.addrPort("metricsBindAddress", out.metrics)
	out.nodeAddrs = faults.bindAddress(in.BindAddress)
	if out.Node == "" {
		name, err := hostname()
		if err != nil {
			faults.add("hostnameOverride: not set, and the host has no name: %v", err)
		}
		out.Node = strings.ToLower(name)
	}
	var err error
	out.ignored, err = ignoredFields(data)
	return out, errors.Join(append(faults, err)...)
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// schedulers are those of the kernel that make sense for Services.
func schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf"}
}

// faults collects what is wrong with the file.
type faults []error

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

func (f *faults) prefixes(field string, texts []string) []netip.Prefix {
	var list []netip.Prefix
	for i, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			f.add("%s[%d]: %q: not a prefix like 10.0.0.0/8", field, i, text)
			continue
		}
		list = append(list, p.Masked())
	}
	return list
}

func (f *faults) addrPort(field, text string) {
	if _, err := netip.ParseAddrPort(text); err != nil {
		f.add("%s: %q: not an address with a port", field, text)
	}
}

// bindAddress is kube-proxy's old name for the node's address; unspecified
// means that the Node says it.
func (f *faults) bindAddress(text string) []netip.Addr {
	if text == "" {
		return nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		f.add("bindAddress: %q: not an IP address", text)
		return nil
	}
	if addr.IsUnspecified() {
		return nil
	}
	return []netip.Addr{addr.Unmap()}
}

// ignoredFields lists the fields that are set to something and not used.
func ignoredFields(data []byte) ([]string, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	return slices.Collect(func(yield func(string) bool) { leaves(tree, "", yield) }), nil
}

func leaves(tree map[string]any, path string, yield func(string) bool) bool {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		name := path + key
		if slices.Contains(usedFields[:], name) {
			continue
		}
		switch v := tree[key].(type) {
		case nil:
		case map[string]any:
			if !leaves(v, name+".", yield) {
				return false
			}
		default:
			if !isZero(v) && !yield(name) {
				return false
			}
		}
	}
	return true
}

func isZero(v any) bool {
	switch v := v.(type) {
	case string:
		return v == "" || v == "0s"
	case bool:
		return !v
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	}
	return false
}

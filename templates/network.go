// SPDX-License-Identifier: Apache-2.0

package templates

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// FlanneldUnit is flanneld.service.
type FlanneldUnit struct {
	Node string
	// Addresses are the host's, at most one per family, all on the link that
	// carries the pod network.
	Addresses []netip.Addr
}

// Render gives the unit file.
func (u FlanneldUnit) Render() ([]byte, error) {
	n := need{what: FlanneldService}
	if err := n.str("Node", u.Node).some("Addresses", len(u.Addresses)).err(); err != nil {
		return nil, err
	}
	// Of two families flannel finds its link by the IPv4 address alone, and then
	// wants the other one there too (pkg/ipmatch/match.go, LookupExtIface).
	byFamily := slices.SortedFunc(slices.Values(u.Addresses), netip.Addr.Compare)
	args := []string{
		"--iface=" + byFamily[0].String(),
		"--ip-masq",
		"--kube-subnet-mgr",
		"--kubeconfig-file=" + FlannelConf,
		"--net-config-path=" + FlannelNetConfPath,
		"--subnet-file=" + FlannelSubnetEnv,
	}
	for _, a := range byFamily {
		if a.Is4() {
			args = append(args, "--public-ip="+a.String())
		} else {
			args = append(args, "--public-ipv6="+a.String())
		}
	}
	return render("flanneld.service.tmpl", struct {
		BinDir, NodeNameEnv, SubnetEnv, CNIConflist string
		Args                                        []string
	}{BinDir, "NODE_NAME=" + u.Node, FlannelSubnetEnv, CNIConflistPath, args})
}

// FlannelNetConf is flannel's net-conf.json.
type FlannelNetConf struct {
	// Networks are the pod CIDRs, at most one per family.
	Networks []netip.Prefix
}

// flannelConfig has flannel's own names (pkg/subnet/config.go, Config).
type flannelConfig struct {
	EnableIPv4     bool
	Network        string `json:",omitempty"`
	EnableIPv6     bool
	IPv6Network    string `json:",omitempty"`
	EnableNFTables bool
	Backend        flannelBackend
}

type flannelBackend struct {
	Type          string
	DirectRouting bool
}

// Render gives the JSON document for FlannelNetConfPath. Hosts of one network
// segment are routed to directly; VXLAN is for the others.
func (c FlannelNetConf) Render() ([]byte, error) {
	n := need{what: FlannelNetConfPath}
	if err := n.some("Networks", len(c.Networks)).err(); err != nil {
		return nil, err
	}
	conf := flannelConfig{EnableNFTables: true, Backend: flannelBackend{Type: "vxlan", DirectRouting: true}}
	for _, p := range c.Networks {
		if p.Addr().Is4() {
			conf.EnableIPv4, conf.Network = true, p.String()
		} else {
			conf.EnableIPv6, conf.IPv6Network = true, p.String()
		}
	}
	return indentJSON(conf)
}

// CNIConflist is the list of plugins that the runtime runs for each pod: a
// bridge, addresses from the host's own subnet, and host ports.
type CNIConflist struct {
	// Subnets are the host's part of the pod network, one per family.
	Subnets []netip.Prefix
	// MTU of the pod network in bytes; 0 leaves it to the kernel.
	MTU int
}

type conflist struct {
	CNIVersion string   `json:"cniVersion"`
	Name       string   `json:"name"`
	Plugins    []plugin `json:"plugins"`
}

type plugin struct {
	Type             string          `json:"type"`
	Bridge           string          `json:"bridge,omitempty"`
	MTU              int             `json:"mtu,omitempty"`
	HairpinMode      bool            `json:"hairpinMode,omitempty"`
	IsGateway        bool            `json:"isGateway,omitempty"`
	IsDefaultGateway bool            `json:"isDefaultGateway,omitempty"`
	IPAM             *ipam           `json:"ipam,omitempty"`
	Backend          string          `json:"backend,omitempty"`
	Capabilities     map[string]bool `json:"capabilities,omitempty"`
}

type ipam struct {
	Type    string      `json:"type"`
	Ranges  [][]subnet  `json:"ranges"`
	DataDir string      `json:"dataDir"`
	Routes  []ipamRoute `json:"routes,omitempty"`
}

type subnet struct {
	Subnet string `json:"subnet"`
}

type ipamRoute struct {
	Dst string `json:"dst"`
}

// Render gives the JSON document for CNIConflistPath.
func (c CNIConflist) Render() ([]byte, error) {
	n := need{what: CNIConflistPath}
	if err := n.some("Subnets", len(c.Subnets)).err(); err != nil {
		return nil, err
	}
	var ranges [][]subnet
	for _, p := range c.Subnets {
		ranges = append(ranges, []subnet{{p.Masked().String()}})
	}
	return indentJSON(conflist{
		CNIVersion: "1.0.0",
		Name:       "muster",
		Plugins: []plugin{{
			Type: "bridge", Bridge: "cni0", MTU: c.MTU,
			// A pod that reaches itself through its Service leaves and enters
			// by the same port of the bridge.
			HairpinMode: true, IsGateway: true, IsDefaultGateway: true,
			IPAM: &ipam{
				Type: "host-local", Ranges: ranges,
				// Below /run, because no pod survives a reboot and neither must
				// the reservation of its address.
				DataDir: "/run/muster-cni",
			},
		}, {
			Type: "portmap", Backend: "nftables", Capabilities: map[string]bool{"portMappings": true},
		}},
	})
}

// ProxierUnit is muster-proxier.service.
type ProxierUnit struct {
	// NodeIPs are the host's addresses, one per family, known before there is a
	// Node object.
	NodeIPs []netip.Addr
}

// Render gives the unit file.
func (u ProxierUnit) Render() ([]byte, error) {
	n := need{what: ProxierService}
	if err := n.some("NodeIPs", len(u.NodeIPs)).err(); err != nil {
		return nil, err
	}
	return render("muster-proxier.service.tmpl", struct {
		BinDir string
		Args   []string
	}{BinDir, []string{"--config=" + ProxierConfigPath, "--node-ip=" + joinStringers(u.NodeIPs)}})
}

// ProxierConfig is the proxier's KubeProxyConfiguration.
type ProxierConfig struct {
	Node     string
	PodCIDRs []netip.Prefix
}

// Render gives the YAML document for ProxierConfigPath. Ports and addresses
// are kube-proxy's, so that what scrapes and probes it goes on working.
func (c ProxierConfig) Render() ([]byte, error) {
	n := need{what: ProxierConfigPath}
	if err := n.str("Node", c.Node).some("PodCIDRs", len(c.PodCIDRs)).err(); err != nil {
		return nil, err
	}
	return render("proxier.yaml.tmpl", struct {
		Kubeconfig, NodeName, ClusterCIDR, BindAddress, Healthz, Metrics, Scheduler string
	}{
		Kubeconfig: ProxierConf, NodeName: c.Node, ClusterCIDR: joinStringers(c.PodCIDRs),
		BindAddress: "0.0.0.0", Healthz: "0.0.0.0:10256", Metrics: "127.0.0.1:10249", Scheduler: "rr",
	})
}

func indentJSON[T any](v T) ([]byte, error) {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return append(out, '\n'), nil
}

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

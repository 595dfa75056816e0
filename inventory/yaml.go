// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"fmt"
	"net/netip"

	"gopkg.in/yaml.v3"
)

// The types below are the normal form's shape; no YAML tag leaves this file.
type normalFile struct {
	APIVersion string        `yaml:"apiVersion"`
	Cluster    string        `yaml:"cluster"`
	Kubernetes string        `yaml:"kubernetes"`
	Network    normalNetwork `yaml:"network"`
	API        normalAPI     `yaml:"api,omitempty"`
	Hosts      []normalHost  `yaml:"hosts"`
}

type normalNetwork struct {
	Pods     []string `yaml:"pods,flow"`
	Services []string `yaml:"services,flow"`
	Domain   string   `yaml:"domain"`
	CNI      string   `yaml:"cni"`
}

type normalAPI struct {
	Endpoint string   `yaml:"endpoint,omitempty"`
	Names    []string `yaml:"names,omitempty,flow"`
}

type normalHost struct {
	Name    string            `yaml:"name"`
	Address normalAddress     `yaml:"address"`
	Roles   []Role            `yaml:"roles,flow"`
	Zone    string            `yaml:"zone,omitempty"`
	Labels  map[string]string `yaml:"labels,omitempty"`
	Taints  []normalTaint     `yaml:"taints,omitempty"`
	SSH     normalSSH         `yaml:"ssh"`
}

// normalAddress is one address, or a list of two.
type normalAddress []netip.Addr

// MarshalYAML gives the form that is shortest to read.
func (a normalAddress) MarshalYAML() (any, error) {
	if len(a) == 1 {
		return a[0].String(), nil
	}
	list := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, one := range a {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: one.String()})
	}
	return &list, nil
}

type normalTaint struct {
	Key    string `yaml:"key"`
	Value  string `yaml:"value,omitempty"`
	Effect string `yaml:"effect"`
}

type normalSSH struct {
	Host         string     `yaml:"host,omitempty"`
	Port         int        `yaml:"port,omitempty"`
	User         string     `yaml:"user,omitempty"`
	Keys         []string   `yaml:"keys,omitempty,flow"`
	Agent        bool       `yaml:"agent"`
	KnownHosts   []string   `yaml:"knownHosts,omitempty,flow"`
	HostKey      string     `yaml:"hostKey,omitempty"`
	FirstContact string     `yaml:"firstContact"`
	Bastion      *normalSSH `yaml:"bastion,omitempty"`
}

// YAML is the inventory in normal form: defaults written out, hosts by name.
// Parse reads it back to an equal value.
func (i Inventory) YAML() []byte {
	f := normalFile{
		APIVersion: APIVersion, Cluster: i.Cluster, Kubernetes: i.Kubernetes, API: normalAPI(i.API),
		Network: normalNetwork{texts(i.Network.Pods), texts(i.Network.Services), i.Network.Domain, i.Network.CNI},
	}
	for _, h := range i.Hosts {
		n := normalHost{Name: h.Name, Address: h.Addresses(), Roles: h.Roles, Zone: h.Zone, Labels: h.Labels, SSH: *normal(&h.SSH)}
		for _, t := range h.Taints {
			n.Taints = append(n.Taints, normalTaint(t))
		}
		f.Hosts = append(f.Hosts, n)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(f); err != nil {
		panic(fmt.Sprintf("inventory: encode plain values: %v", err)) // strings and numbers always encode
	}
	return out.Bytes()
}

func texts(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

func normal(s *SSH) *normalSSH {
	if s == nil {
		return nil
	}
	return &normalSSH{s.Host, s.Port, s.User, s.Keys, s.Agent, s.KnownHosts, s.HostKey, s.FirstContact, normal(s.Bastion)}
}

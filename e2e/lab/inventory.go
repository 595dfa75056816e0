// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"gopkg.in/yaml.v3"
)

const inventoryFile = "inventory.yaml"

// The inventory's v1 form, as far as a lab fills it in. The inventory package
// only reads it.
type (
	inventoryDoc struct {
		APIVersion string          `yaml:"apiVersion"`
		Cluster    string          `yaml:"cluster"`
		Kubernetes string          `yaml:"kubernetes"`
		Network    *inventoryNet   `yaml:"network,omitempty"`
		API        *inventoryAPI   `yaml:"api,omitempty"`
		SSH        inventorySSH    `yaml:"ssh"`
		Hosts      []inventoryHost `yaml:"hosts"`
	}
	inventoryNet struct {
		Pods     []string `yaml:"pods,flow"`
		Services []string `yaml:"services,flow"`
	}
	inventoryAPI struct {
		Endpoint string `yaml:"endpoint"`
	}
	inventorySSH struct {
		User       string `yaml:"user"`
		Key        string `yaml:"key"`
		KnownHosts string `yaml:"knownHosts"`
	}
	inventoryHost struct {
		Name    string       `yaml:"name"`
		Address yaml.Node    `yaml:"address"`
		Roles   []string     `yaml:"roles,flow"`
		SSH     inventoryHop `yaml:"ssh,flow"`
	}
	inventoryHop struct {
		Host string `yaml:"host"`
		Port int    `yaml:"port"`
	}
)

// renderInventory writes the lab as the installer's input.
func renderInventory(r record, d labDir) ([]byte, error) {
	doc := inventoryDoc{
		APIVersion: "muster/v1",
		Cluster:    r.Name,
		Kubernetes: r.Kubernetes,
		SSH:        inventorySSH{User: "root", Key: d.path(clientKeyFile), KnownHosts: d.path(knownHostsFile)},
	}
	if r.DualStack {
		doc.Network = dualStack()
	}
	if r.APIPort != 0 {
		doc.API = &inventoryAPI{Endpoint: net.JoinHostPort("127.0.0.1", strconv.Itoa(r.APIPort))}
	}
	for _, m := range r.Machines {
		if !m.Spare {
			doc.Hosts = append(doc.Hosts, inventoryEntry(m, r.addresses(m)))
		}
	}
	var out bytes.Buffer
	out.WriteString("# Written by \"muster lab up\"; machines live in " + d.path() + ".\n")
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(doc); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	writeSpares(&out, r)
	return out.Bytes(), nil
}

// writeSpares adds the spare machines as comments, to be uncommented before
// they are joined.
func writeSpares(out *bytes.Buffer, r record) {
	for _, m := range r.Machines {
		if m.Spare {
			address := m.Address.String()
			if all := r.addresses(m); len(all) > 1 {
				address = fmt.Sprintf("[%s, '%s']", all[0], all[1])
			}
			fmt.Fprintf(out, "#  - {name: %s, address: %s, roles: [worker], ssh: {host: 127.0.0.1, port: %d}} # spare\n",
				m.Name, address, m.SSHPort)
		}
	}
}

// dualStack has the inventory's own IPv4 defaults: with one CIDR of a family
// written down, the other has to be too.
func dualStack() *inventoryNet {
	return &inventoryNet{
		Pods:     []string{"10.244.0.0/16", "fd77:244::/48"},
		Services: []string{"10.96.0.0/16", "fd77:96::/112"},
	}
}

// addresses are those of a machine that the inventory names.
func (r record) addresses(m machineRecord) []netip.Addr {
	if r.DualStack {
		return []netip.Addr{m.Address, address6Of(m.Address)}
	}
	return []netip.Addr{m.Address}
}

func inventoryEntry(m machineRecord, addresses []netip.Addr) inventoryHost {
	node := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, a := range addresses {
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: a.String()})
	}
	if len(addresses) == 1 {
		node = *node.Content[0]
	}
	return inventoryHost{
		Name: m.Name, Address: node, Roles: m.Roles,
		SSH: inventoryHop{Host: "127.0.0.1", Port: m.SSHPort},
	}
}

// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"fmt"
	"net"
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
		API        *inventoryAPI   `yaml:"api,omitempty"`
		SSH        inventorySSH    `yaml:"ssh"`
		Hosts      []inventoryHost `yaml:"hosts"`
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
		Address string       `yaml:"address"`
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
	if r.APIPort != 0 {
		doc.API = &inventoryAPI{Endpoint: net.JoinHostPort("127.0.0.1", strconv.Itoa(r.APIPort))}
	}
	for _, m := range r.Machines {
		if !m.Spare {
			doc.Hosts = append(doc.Hosts, inventoryEntry(m))
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
	writeSpares(&out, r.Machines)
	return out.Bytes(), nil
}

// writeSpares adds the spare machines as comments, to be uncommented before
// they are joined.
func writeSpares(out *bytes.Buffer, machines []machineRecord) {
	for _, m := range machines {
		if m.Spare {
			fmt.Fprintf(out, "#  - {name: %s, address: %s, roles: [worker], ssh: {host: 127.0.0.1, port: %d}} # spare\n",
				m.Name, m.Address, m.SSHPort)
		}
	}
}

func inventoryEntry(m machineRecord) inventoryHost {
	return inventoryHost{
		Name: m.Name, Address: m.Address.String(), Roles: m.Roles,
		SSH: inventoryHop{Host: "127.0.0.1", Port: m.SSHPort},
	}
}

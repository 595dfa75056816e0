// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/remote"
	"github.com/muster-project/muster/templates"
)

func newStatusCommand(s streams) *cobra.Command {
	var flags clusterFlags
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the cluster and its hosts are",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, false)
			if err != nil {
				return err
			}
			defer c.close()
			st := c.status(cmd.Context())
			if output == "json" {
				err = printJSON(s.out, st)
			} else {
				err = printStatus(s.out, st)
			}
			if err == nil && !st.Healthy {
				return fmt.Errorf("cluster %s is not healthy", c.inventory.Cluster)
			}
			return err
		},
	}
	flags.add(cmd)
	addOutput(cmd, &output)
	return cmd
}

// clusterStatus is what `muster status -o json` prints.
type clusterStatus struct {
	Schema  string       `json:"schema"`
	Cluster string       `json:"cluster"`
	Healthy bool         `json:"healthy"`
	Hosts   []hostStatus `json:"hosts"`
}

type hostStatus struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Roles   []string `json:"roles"`
	Node    string   `json:"node"`    // Ready, NotReady, absent, unknown, or - if the host is no node
	Version string   `json:"version"` // of the kubelet
	Units   []string `json:"units"`   // those that should run and do not
	Error   string   `json:"error,omitempty"`
}

// node is what the API says of one.
type node struct{ ready, version string }

func (s *session) status(ctx context.Context) clusterStatus {
	st := clusterStatus{Schema: "muster/status/v1", Cluster: s.inventory.Cluster, Healthy: true}
	st.Hosts = make([]hostStatus, len(s.inventory.Hosts))
	nodes, apiErr := s.nodes(ctx)
	var all sync.WaitGroup
	for i, h := range s.inventory.Hosts {
		all.Go(func() { st.Hosts[i] = s.hostStatus(ctx, h, nodes) })
	}
	all.Wait()
	for i := range st.Hosts {
		h := &st.Hosts[i]
		if apiErr != nil && h.Node == "absent" {
			h.Node = "unknown"
		}
		if apiErr != nil && h.Error == "" && s.isControlPlane(h.Name) {
			h.Error = apiErr.Error()
		}
		if h.Error != "" || len(h.Units) > 0 || (h.Node != "Ready" && h.Node != "-") {
			st.Healthy = false
		}
	}
	return st
}

func (s *session) isControlPlane(name string) bool {
	h, _ := s.inventory.Host(name)
	return h.Has(inventory.ControlPlane)
}

// commandNotFound is what a shell exits with when there is no such program.
const commandNotFound = 127

// nodes asks the API from the control-plane host, where muster's own
// credentials are: it works without a kubeconfig and without a way to the API
// from here.
func (s *session) nodes(ctx context.Context) (map[string]node, error) {
	cluster := phases.Cluster{Inventory: s.inventory}
	as := cluster.AsAdmin()
	out, err := s.operator.Run(ctx, cluster.ControlPlane().Name, templates.BinDir+"/kubectl", "--server="+as.Server, "--certificate-authority="+as.CA,
		"--client-certificate="+as.Cert, "--client-key="+as.Key, "--request-timeout=10s",
		"--cache-dir=/run/muster/kubectl", "get", "nodes", "-o", "json")
	var exit *remote.ExitError
	if errors.As(err, &exit) && exit.Code == commandNotFound {
		return nil, errors.New("there is no cluster on it: `muster init` installs one")
	}
	if err != nil {
		return nil, err
	}
	return parseNodes(out)
}

func parseNodes(data []byte) (map[string]node, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				NodeInfo   struct{ KubeletVersion string }
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode nodes: %w", err)
	}
	nodes := make(map[string]node, len(list.Items))
	for _, n := range list.Items {
		state := node{ready: "NotReady", version: n.Status.NodeInfo.KubeletVersion}
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				state.ready = "Ready"
			}
		}
		nodes[n.Metadata.Name] = state
	}
	return nodes, nil
}

func (s *session) hostStatus(ctx context.Context, h inventory.Host, nodes map[string]node) hostStatus {
	st := hostStatus{Name: h.Name, Address: h.Address.String(), Node: "-", Units: []string{}}
	for _, r := range h.Roles {
		st.Roles = append(st.Roles, string(r))
	}
	if h.Has(inventory.Worker) || h.Has(inventory.ControlPlane) {
		st.Node = "absent"
		if n, ok := nodes[h.Name]; ok {
			st.Node, st.Version = n.ready, n.version
		}
	}
	// is-active prints one state a line, in order, and exits non-zero if one
	// of them is not active.
	units := unitsOf(h)
	out, err := s.operator.Run(ctx, h.Name, append([]string{"systemctl", "is-active"}, units...)...)
	states := strings.Fields(string(out))
	var exit *remote.ExitError
	if err != nil && !errors.As(err, &exit) {
		st.Error = err.Error()
		return st
	}
	if len(states) != len(units) {
		st.Error = fmt.Sprintf("ask for units: %v", err)
		return st
	}
	for i, u := range units {
		if states[i] != "active" {
			st.Units = append(st.Units, u+" "+states[i])
		}
	}
	return st
}

// unitsOf are the units that should run on a host.
func unitsOf(h inventory.Host) []string {
	var units []string
	if h.Has(inventory.Etcd) {
		units = append(units, templates.EtcdService)
	}
	if h.Has(inventory.ControlPlane) {
		units = append(units, templates.APIServerService, templates.ControllerManagerService, templates.SchedulerService, templates.ApproverService)
	}
	if h.Has(inventory.Worker) || h.Has(inventory.ControlPlane) {
		units = append(units, templates.ContainerdService, templates.KubeletService, templates.FlanneldService, templates.ProxierService)
	}
	return units
}

func onlyWorker(h inventory.Host) bool {
	return slices.Equal(h.Roles, []inventory.Role{inventory.Worker})
}

func printStatus(out io.Writer, st clusterStatus) error {
	t := newTable(out)
	t.AppendHeader(table.Row{"HOST", "ADDRESS", "ROLES", "NODE", "VERSION", "SERVICES"})
	for _, h := range st.Hosts {
		services := "all running"
		if len(h.Units) > 0 {
			services = strings.Join(h.Units, ", ")
		}
		if h.Error != "" {
			services = h.Error
		}
		t.AppendRow(table.Row{h.Name, h.Address, strings.Join(h.Roles, ","), h.Node, h.Version, services})
	}
	t.Render()
	return nil
}

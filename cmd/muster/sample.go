// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/sample"
)

func newSampleCommand(s streams) *cobra.Command {
	var flags clusterFlags
	cmd := &cobra.Command{
		Use:   "sample",
		Short: "Run a sample Deployment and see its Service answer on every node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, true)
			if err != nil {
				return err
			}
			defer c.close()
			if err := c.belongs(cmd.Context()); err != nil {
				return err
			}
			p, err := sample.Plan(phases.Cluster{Inventory: c.inventory, Artifacts: c.bundle})
			if err != nil {
				return err
			}
			if err := c.operator.Connect(cmd.Context(), p.Hosts()); err != nil {
				return err
			}
			if err := c.run(cmd.Context(), p); err != nil {
				return err
			}
			return printSample(s, phases.Cluster{Inventory: c.inventory})
		},
	}
	flags.add(cmd)
	return cmd
}

func printSample(s streams, c phases.Cluster) error {
	_, err := fmt.Fprintf(s.out, "Service default/hello answers on port %d of every node. Try, in the cluster's network:\n", sample.NodePort)
	for _, h := range c.Nodes() {
		fmt.Fprintf(s.out, "  curl http://%s:%d/hostname\n", h.Address, sample.NodePort)
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/inventory"
)

func newInventoryCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{Use: "inventory", Short: "Look at the inventory file"}
	cmd.AddCommand(newInventoryCheckCommand(s), newInventoryShowCommand(s))
	return cmd
}

func newInventoryCheckCommand(s streams) *cobra.Command {
	var flags clusterFlags
	var output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Name every fault of the inventory file; no host is contacted",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			inv, err := readInventory(flags.file)
			if report := reportInventory(s.out, output, flags.file, inv, err); report != nil {
				return report
			}
			return err
		},
	}
	flags.addFile(cmd)
	addOutput(cmd, &output)
	return cmd
}

func newInventoryShowCommand(s streams) *cobra.Command {
	var flags clusterFlags
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the inventory with its defaults written out",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			inv, err := readInventory(flags.file)
			if err != nil {
				return err
			}
			_, err = s.out.Write(inv.YAML())
			return err
		},
	}
	flags.addFile(cmd)
	return cmd
}

// addFile adds the one flag of commands that contact no host.
func (f *clusterFlags) addFile(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "file", "f", cmp.Or(os.Getenv("MUSTER_INVENTORY"), "muster.yaml"),
		"inventory file; $MUSTER_INVENTORY names another default")
}

// readInventory reads an inventory file. Its faults keep their type.
func readInventory(path string) (inventory.Inventory, error) {
	f, err := os.Open(path)
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("read the inventory: %w; name another file with --file", err)
	}
	defer f.Close()
	inv, err := inventory.Parse(f)
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("%s: %w", path, err)
	}
	return inv, nil
}

// reportInventory prints what was found. Text says it only of a file without
// faults: those are printed as the command's error.
func reportInventory(out io.Writer, format, path string, inv inventory.Inventory, err error) error {
	var faults inventory.Faults
	if err != nil && !errors.As(err, &faults) {
		return nil // the file could not be read; the caller says so
	}
	if format == "json" {
		if faults == nil {
			faults = inventory.Faults{} // an empty list, not null
		}
		return printJSON(out, struct {
			Schema string           `json:"schema"`
			File   string           `json:"file"`
			Valid  bool             `json:"valid"`
			Hosts  int              `json:"hosts"`
			Faults inventory.Faults `json:"faults"`
		}{"muster/inventory-check/v1", path, err == nil, len(inv.Hosts), faults})
	}
	if err != nil {
		return nil
	}
	_, err = fmt.Fprintf(out, "%s: no faults; cluster %s, Kubernetes %s, %d hosts (control-plane %d, etcd %d, worker %d)\n", path, inv.Cluster, inv.Kubernetes,
		len(inv.Hosts), len(inv.WithRole(inventory.ControlPlane)), len(inv.WithRole(inventory.Etcd)), len(inv.WithRole(inventory.Worker)))
	return err
}

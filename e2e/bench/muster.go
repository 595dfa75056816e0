// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/muster-project/muster/e2e/lab"
	"github.com/muster-project/muster/e2e/program"
)

// musterRun installs one control plane, then has a worker join.
func (b *bench) musterRun(ctx context.Context, l *lab.Lab) (musterRun, error) {
	var r musterRun
	inventory := filepath.Join(b.dir, "inventory.yaml")
	whole, err := os.ReadFile(l.Inventory())
	if err != nil {
		return r, err
	}
	alone, err := without(whole, worker)
	if err != nil {
		return r, err
	}
	kubeconfig := filepath.Join(b.dir, "kubeconfig")
	if err := os.RemoveAll(kubeconfig); err != nil {
		return r, err
	}
	do := func(file []byte, machine string, report *runReport, args ...string) (cost, error) {
		if err := os.WriteFile(inventory, file, 0o600); err != nil {
			return cost{}, err
		}
		return b.timed(ctx, l, machine, "muster "+args[0], func(ctx context.Context) error {
			cmd := exec.CommandContext(ctx, b.muster, append(args, "-o", "json")...)
			cmd.Env = append(os.Environ(), "MUSTER_INVENTORY="+inventory, "KUBECONFIG="+kubeconfig, "MUSTER_BUNDLE="+b.bundle.Dir())
			out, err := program.Output(cmd)
			if err == nil {
				*report, err = parseReport(out)
			}
			return err
		})
	}
	if r.init, err = do(alone, controlPlane, &r.initReport, "init"); err != nil {
		return r, err
	}
	r.join, err = do(whole, worker, &r.joinReport, "join", worker)
	return r, err
}

// without cuts the worker out of an inventory as the lab writes it: hosts are
// the last key, ordered by address, so it is the end of the file.
func without(inventory []byte, host string) ([]byte, error) {
	const entry = "  - name: "
	before, after, ok := bytes.Cut(inventory, []byte(entry+host+"\n"))
	if !ok || bytes.Contains(after, []byte(entry)) {
		return nil, fmt.Errorf("the lab's inventory does not end with host %s:\n%s", host, inventory)
	}
	return before, nil
}

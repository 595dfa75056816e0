// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-project/muster/e2e/lab"
	"github.com/muster-project/muster/e2e/program"
	"github.com/muster-project/muster/templates"
)

// cluster is the cluster under test.
type cluster struct {
	lab        *lab.Lab
	kubeconfig string
}

const (
	controlPlane = "cp-1"
	memoryMiB    = 2048
	// apiServer is cp-1's own address: the tests run inside of the lab's network.
	apiServer       = "https://10.77.0.11:6443"
	installAttempts = 2
	// patience is how long making or removing the lab may take.
	patience = 20 * time.Minute
)

// zones of the workers: the specs of traffic distribution want three, and one
// node of each.
func zones() map[string]string { return map[string]string{"w-1": "a", "w-2": "b", "w-3": "c"} }

// workers are the addresses of the nodes that run pods.
func workers() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.77.0.21"), netip.MustParseAddr("10.77.0.22"), netip.MustParseAddr("10.77.0.23")}
}

// readyName is the file that says which lab was found complete.
const readyName = "ready"

// open makes the cluster, or takes the one that an earlier run left.
func (w *work) open(ctx context.Context, o options) (*cluster, error) {
	ready := filepath.Join(w.resultsDir(), readyName)
	c := &cluster{kubeconfig: filepath.Join(w.resultsDir(), "kubeconfig")}
	if o.keep {
		left, err := lab.Open(o.lab)
		if mark, readErr := os.ReadFile(ready); err == nil && readErr == nil && string(mark) == left.API() {
			w.say("using the lab %s that was left", o.lab)
			c.lab = left
			return c, nil
		}
	}
	if err := errors.Join(os.RemoveAll(ready), os.RemoveAll(c.kubeconfig), lab.Down(ctx, o.lab)); err != nil {
		return nil, fmt.Errorf("remove an earlier lab %s: %w", o.lab, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the cluster was not there within %s", patience))
	defer cancel()
	w.say("starting the machines of lab %s", o.lab)
	var err error
	c.lab, err = lab.Up(ctx, lab.Spec{
		Name: o.lab, Machines: lab.Standard(1, len(zones()), 0, memoryMiB), DualStack: w.dual,
		Forwarder: []string{w.muster, "lab", "forward"},
	}, nil)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(w.install(ctx, c), w.sendImages(ctx, c), context.Cause(ctx)); err != nil {
		return nil, err
	}
	return c, os.WriteFile(ready, []byte(c.lab.API()), 0o644)
}

func (w *work) install(ctx context.Context, c *cluster) error {
	written, err := os.ReadFile(c.lab.Inventory())
	if err != nil {
		return err
	}
	zoned, err := withZones(string(written), zones())
	if err != nil {
		return err
	}
	inventory := filepath.Join(w.resultsDir(), "inventory.yaml")
	if err := os.WriteFile(inventory, []byte(zoned), 0o600); err != nil {
		return err
	}
	w.say("installing the cluster")
	// What a busy computer made fail is what a second call corrects.
	for range installAttempts {
		cmd := exec.CommandContext(ctx, w.muster, "init")
		cmd.Env = append(os.Environ(), "MUSTER_INVENTORY="+inventory, "KUBECONFIG="+c.kubeconfig)
		if _, err = program.Output(cmd); err == nil || ctx.Err() != nil {
			break
		}
		w.say("installing again: %v", err)
	}
	return err
}

// withZones gives hosts of an inventory, as the lab writes it, their zones.
func withZones(inventory string, zones map[string]string) (string, error) {
	for host, zone := range zones {
		entry := "  - name: " + host + "\n"
		if strings.Count(inventory, entry) != 1 {
			return "", fmt.Errorf("the lab's inventory does not have host %s once:\n%s", host, inventory)
		}
		inventory = strings.Replace(inventory, entry, entry+"    zone: "+zone+"\n", 1)
	}
	return inventory, nil
}

// sendImages gives the nodes the images of the tests, under the names by which
// pods ask for them: there is no registry. One spec calls sudo, which root does
// not need.
func (w *work) sendImages(ctx context.Context, c *cluster) error {
	w.say("sending the images of the tests")
	group, ctx := errgroup.WithContext(ctx)
	for host := range zones() {
		group.Go(func() error {
			ssh, err := c.lab.SSH(host)
			if err != nil {
				return err
			}
			images, err := os.Open(w.suite.images())
			if err != nil {
				return err
			}
			defer images.Close() //nolint:errcheck // only read from
			cmd := exec.CommandContext(ctx, ssh[0], append(ssh[1:], importImages)...)
			cmd.Stdin = images
			_, err = program.Output(cmd)
			return err
		})
	}
	return group.Wait()
}

const importImages = `printf '#!/bin/sh\nexec "$@"\n' >/usr/local/bin/sudo && chmod +x /usr/local/bin/sudo && ` +
	templates.BinDir + `/ctr -n k8s.io images import -`

// close removes the lab, also when ctx has ended.
func (c *cluster) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return c.lab.Down(ctx)
}

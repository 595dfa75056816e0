// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/all"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/remote/ssh"
)

// clusterFlags are what every command about a cluster takes.
type clusterFlags struct {
	file   string
	bundle string
	ignore []string
}

func (f *clusterFlags) add(cmd *cobra.Command) {
	f.addFile(cmd)
	cmd.Flags().StringVar(&f.bundle, "bundle", "", "bundle directory; $MUSTER_BUNDLE names another default")
}

func (f *clusterFlags) addIgnore(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.ignore, "ignore", nil, "checks whose errors only warn")
}

// session is a command's view of one cluster.
type session struct {
	streams
	begun     time.Time // the command
	inventory inventory.Inventory
	bundle    *bundle.Bundle
	operator  *operator.Operator
}

// open reads the inventory and the bundle; no host is contacted. locked says
// that hosts are to be changed.
func (f *clusterFlags) open(s streams, locked bool) (*session, error) {
	inv, err := readInventory(f.file)
	if err != nil {
		return nil, err
	}
	b, err := openBundle(f.bundle)
	if err != nil {
		return nil, err
	}
	if b.Kubernetes() != inv.Kubernetes {
		return nil, fmt.Errorf("%s asks for Kubernetes %s, the bundle %s holds %s: change one, or name another bundle with --bundle",
			f.file, inv.Kubernetes, b.Dir(), b.Kubernetes())
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	return &session{streams: s, begun: time.Now(), inventory: inv, bundle: b, operator: &operator.Operator{
		Inventory: inv, Bundle: b, Locked: locked,
		SSH: ssh.Options{
			Home: home, AgentSocket: os.Getenv("SSH_AUTH_SOCK"),
			Logf: func(format string, args ...any) { fmt.Fprintf(s.err, format+"\n", args...) },
		},
	}}, nil
}

// close ends the connections; an error in doing so changes nothing for the
// command, whose work is over.
func (s *session) close() { _ = s.operator.Close() }

func (s *session) names() []string {
	var names []string
	for _, h := range s.inventory.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// plan makes the whole plan from what the hosts said.
func (s *session) plan(facts map[string]facts.Host) (plan.Plan, error) {
	return all.Plan(phases.Cluster{Inventory: s.inventory, Artifacts: s.bundle, Facts: facts})
}

// examine asks hosts for facts and judges them. With a finding that is an
// error it prints the findings and returns a preflightError.
func (s *session) examine(ctx context.Context, names, ignore []string) (map[string]facts.Host, error) {
	if err := known(ignore); err != nil {
		return nil, err
	}
	found, err := s.ask(ctx, names)
	if err != nil {
		return nil, err
	}
	findings := preflight.Check(s.inventory, found, ignore)
	if preflight.Errors(findings) == 0 {
		return found, nil
	}
	if err := printFindings(s.err, findings); err != nil {
		return nil, err
	}
	return nil, &preflightError{preflight.Errors(findings)}
}

// ask gets the facts of hosts once all of them, and the control-plane host,
// have let muster in: before that muster-node is brought to none.
func (s *session) ask(ctx context.Context, names []string) (map[string]facts.Host, error) {
	control := phases.Cluster{Inventory: s.inventory}.ControlPlane().Name
	if err := s.operator.Reach(ctx, union(names, []string{control})); err != nil {
		return nil, err
	}
	return s.operator.Facts(ctx, names)
}

// belongs refuses to give out credentials of a cluster that is not the file's:
// the control-plane host would sign for whichever it has.
// hosts are others that have to let muster in first.
func (s *session) belongs(ctx context.Context, hosts ...string) error {
	control := phases.Cluster{Inventory: s.inventory}.ControlPlane().Name
	if err := s.operator.Reach(ctx, union(hosts, []string{control})); err != nil {
		return err
	}
	found, err := s.ask(ctx, []string{control})
	if err != nil {
		return err
	}
	switch has := found[control].Cluster; has {
	case s.inventory.Cluster:
		return nil
	case "":
		return fmt.Errorf("%s: there is no cluster on it yet: `muster init` installs one", control)
	default:
		return &foreignError{control, has, s.inventory.Cluster}
	}
}

func known(checks []string) error {
	var errs []error
	for _, name := range checks {
		if !slices.Contains(preflight.Names(), name) {
			errs = append(errs, fmt.Errorf("--ignore: no check is called %q; `muster check --list` lists them", name))
		}
	}
	return errors.Join(errs...)
}

// preflightError says that hosts are not fit.
type preflightError struct{ errors int }

func (e *preflightError) Error() string {
	return fmt.Sprintf("%s in the way of an install; nothing was changed (--ignore CHECK turns one into a warning)", plural(e.errors, "finding"))
}

// ExitCode is that of unfit hosts.
func (e *preflightError) ExitCode() int { return exitPreflight }

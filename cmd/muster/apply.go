// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/phases/all"
	"github.com/muster-project/muster/plan"
)

// runFlags are what every command takes that has a plan done.
type runFlags struct {
	clusterFlags
	output string
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.clusterFlags.add(cmd)
	f.addIgnore(cmd)
	addOutput(cmd, &f.output)
}

func newInitCommand(s streams) *cobra.Command {
	var flags runFlags
	var kube kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Install the cluster of the inventory",
		Long: "Checks the hosts, installs the cluster, waits until it answers, and adds it to your\n" +
			"kubeconfig. Cut off or failed, the same command goes on where it stopped.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, true)
			if err != nil {
				return err
			}
			defer c.close()
			if err := c.converge(cmd.Context(), c.names(), flags, everything); err != nil {
				return err
			}
			if flags.output == "json" {
				c.out = s.err // what follows is for people
			}
			return c.mergeKubeconfig(cmd.Context(), kube)
		},
	}
	flags.add(cmd)
	kube.add(cmd)
	return cmd
}

func newApplyCommand(s streams) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the cluster as the inventory says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, true)
			if err != nil {
				return err
			}
			defer c.close()
			return c.converge(cmd.Context(), c.names(), flags, everything)
		},
	}
	flags.add(cmd)
	return cmd
}

func newJoinCommand(s streams) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "join HOST...",
		Short: "Add hosts of the inventory to the running cluster",
		Long: "Installs the named hosts and has them join. Other hosts are not touched; the\n" +
			"control-plane host only signs their certificates and is asked through its API.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			c, err := flags.open(s, true)
			if err != nil {
				return err
			}
			defer c.close()
			if err := c.canJoin(hosts); err != nil {
				return err
			}
			if err := c.belongs(cmd.Context(), hosts...); err != nil {
				return untouched(err)
			}
			return c.converge(cmd.Context(), hosts, flags, func(p plan.Plan) plan.Plan { return all.Join(p, hosts) })
		},
	}
	flags.add(cmd)
	return cmd
}

// canJoin refuses hosts that the inventory does not have, and those that
// would change the control plane or etcd's membership.
func (s *session) canJoin(hosts []string) error {
	var errs []error
	for _, name := range hosts {
		h, ok := s.inventory.Host(name)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s is not in the inventory, which has %s: add it to the file first", name, strings.Join(s.names(), ", ")))
		case !onlyWorker(h):
			errs = append(errs, fmt.Errorf("%s is not a worker only: join adds workers; the control plane and etcd are made by init", name))
		}
	}
	return errors.Join(errs...)
}

func newPhaseCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "phase NAME",
		Short: "Do one phase of the install alone",
		Long:  "Phases, in the order of an install. What a phase needs from others has to be done already.",
	}
	for _, phase := range all.Phases() {
		cmd.AddCommand(newOnePhaseCommand(s, phase.Name(), phase.About()))
	}
	return cmd
}

func newOnePhaseCommand(s streams, name, about string) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use: name, Short: strings.ToUpper(about[:1]) + about[1:], Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, true)
			if err != nil {
				return err
			}
			defer c.close()
			return c.converge(cmd.Context(), c.names(), flags, func(p plan.Plan) plan.Plan {
				return p.Only(func(t plan.Task) bool { return t.Phase == name })
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func everything(p plan.Plan) plan.Plan { return p }

// converge checks hosts, has the chosen part of the plan done, and reports.
// All hosts it will work with are reached before anything is changed.
func (s *session) converge(ctx context.Context, hosts []string, flags runFlags, choose func(plan.Plan) plan.Plan) error {
	found, err := s.examine(ctx, hosts, flags.ignore)
	if err != nil {
		return untouched(err)
	}
	whole, err := s.plan(found)
	if err != nil {
		return err
	}
	chosen := choose(whole)
	if err := s.operator.Connect(ctx, union(chosen.Hosts(), hosts)); err != nil {
		return untouched(err)
	}
	report, err := s.do(ctx, chosen)
	if err != nil {
		return err
	}
	if flags.output == "json" {
		return printReportJSON(s.out, report, s.operator.Sent())
	}
	return printReport(s.streams, report, s.operator.Sent())
}

// untouched adds to what kept a command from beginning that it has not begun.
func untouched(err error) error {
	var unfit *preflightError // says so itself
	if errors.As(err, &unfit) {
		return err
	}
	return errors.Join(err, errUntouched)
}

// errUntouched says that a command ended before it changed anything.
var errUntouched = errors.New("no host was changed")

// run has a plan done and reports to a person.
func (s *session) run(ctx context.Context, p plan.Plan) error {
	report, err := s.do(ctx, p)
	if err != nil {
		return err
	}
	return printReport(s.streams, report, s.operator.Sent())
}

// do has a plan done and shows it while it happens.
func (s *session) do(ctx context.Context, p plan.Plan) (plan.Report, error) {
	progress := newProgress(ctx, s.streams, p, s.begun)
	defer progress.stop()
	progress.line(fmt.Sprintf("%6.1fs  %s reached", time.Since(s.begun).Seconds(), plural(len(p.Hosts()), "host")))
	runner := plan.Runner{Agent: s.operator.Agent, Events: progress.event}
	before := time.Since(s.begun)
	report, err := runner.Run(ctx, p)
	return report.Since(before), err
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

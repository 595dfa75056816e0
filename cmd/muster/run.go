// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/version"
)

// Exit codes; docs/exit-codes.md explains them to users.
const (
	exitOK          = 0
	exitError       = 1 // anything without a code of its own
	exitPreflight   = 2 // hosts are not fit
	exitInventory   = 3 // the inventory file has faults
	exitUnreachable = 4 // a host could not be reached or entered, or was lost
	exitStep        = 5 // a step on a host failed
	exitInterrupted = 130
)

// exitCoder is an error that knows its exit code.
type exitCoder interface{ ExitCode() int }

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRootCommand(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, errUntouched) {
		fmt.Fprintln(s.err, "muster: interrupted;", errUntouched)
		return exitInterrupted
	}
	if ctx.Err() != nil {
		fmt.Fprintln(s.err, "muster: interrupted; what was done stays, and the same command goes on from there")
		return exitInterrupted
	}
	printError(s, err)
	return exitCode(err)
}

func newRootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "muster",
		Short:         "Kubernetes on plain Linux machines, over SSH",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddGroup(
		&cobra.Group{ID: "cluster", Title: "A cluster:"},
		&cobra.Group{ID: "look", Title: "Looking without touching:"},
		&cobra.Group{ID: "supply", Title: "What a cluster is made from:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("cluster", newInitCommand(s), newJoinCommand(s), newApplyCommand(s), newPhaseCommand(s), newSampleCommand(s), newResetCommand(s))
	add("look", newCheckCommand(s), newPlanCommand(s), newStatusCommand(s), newKubeconfigCommand(s))
	bundle := newBundleCommand(s)
	bundle.AddCommand(newBundleExtractCommand(s))
	add("supply", newInventoryCommand(s), bundle, newLabCommand(s))
	root.AddCommand(newVersionCommand(s))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	refuseUnknown(root)
	return root
}

// refuseUnknown makes commands that only group others refuse what they do not
// have. Cobra would print their help and call it a success.
func refuseUnknown(c *cobra.Command) {
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = noSuchCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
}

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %s? ", strings.Join(near, " or "))
	}
	return fmt.Errorf("%s has no %q; %sit has %s", cmd.CommandPath(), args[0], hint, strings.Join(names, ", "))
}

func newVersionCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, "muster", version.Version)
			return err
		},
	}
}

// printError shows an error, each of several on its own, with the evidence
// that was found at the place where it happened.
func printError(s streams, err error) {
	for _, e := range flatten(err) {
		fmt.Fprintln(s.err, "muster:", e)
		var failed *plan.Error
		if errors.As(e, &failed) {
			for _, line := range failed.Evidence {
				fmt.Fprintln(s.err, "    "+line)
			}
			if remedy := remedyFor(failed); remedy != "" {
				fmt.Fprintln(s.err, "  next:", remedy)
			}
		}
	}
}

// remedyFor says what to do about a failed step.
func remedyFor(e *plan.Error) string {
	if len(e.Evidence) == 0 {
		return "correct the cause and run the same command again: it goes on from here"
	}
	unit, _, _ := strings.Cut(e.Evidence[0], ":")
	return fmt.Sprintf("the lines above are from host %s (journalctl -u %s has more); correct the cause and run the same command again: it goes on from here",
		e.Host, unit)
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

func exitCode(err error) int {
	var coder exitCoder
	var (
		failed      *plan.Error
		changed     *ssh.HostKeyChangedError
		unknown     *ssh.HostKeyUnknownError
		auth        *ssh.AuthError
		sudo        *ssh.SudoError
		unreachable *ssh.UnreachableError
		lost        *ssh.LostError
	)
	switch {
	case errors.As(err, &coder):
		return coder.ExitCode()
	case errors.As(err, &changed), errors.As(err, &unknown), errors.As(err, &auth), errors.As(err, &sudo),
		errors.As(err, &unreachable), errors.As(err, &lost):
		return exitUnreachable
	case errors.As(err, &failed):
		return exitStep
	}
	return exitError
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/e2e/lab"
)

const labName = "demo"

// newLabCommand is `muster lab`: virtual machines on this computer.
func newLabCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Make virtual machines on this computer to try muster on",
	}
	name := cmd.PersistentFlags().String("name", labName, "the lab's `name`")
	cmd.AddCommand(
		newLabUp(s, name), newLabDown(s, name), newLabList(s),
		newLabSSH(s, name), newLabConsole(s, name), newLabPackages(s), newLabForward(),
	)
	for _, v := range labVerbs() {
		cmd.AddCommand(newLabVerb(s, name, v))
	}
	return cmd
}

func newLabUp(s streams, name *string) *cobra.Command {
	var controlPlanes, workers, spares int
	var memory string
	var bare, dualStack bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make and start the lab's machines, or those that are missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			mib, err := parseMemory(memory)
			if err != nil {
				return err
			}
			if min(controlPlanes, workers, spares) < 0 || controlPlanes+workers+spares == 0 {
				return fmt.Errorf("%d control planes, %d workers, %d spares: a lab has at least one machine", controlPlanes, workers, spares)
			}
			spec := lab.Spec{Name: *name, Machines: lab.Standard(controlPlanes, workers, spares, mib), Bare: bare, DualStack: dualStack}
			l, err := lab.Up(cmd.Context(), spec, func(e lab.Event) {
				fmt.Fprintln(s.err, e) //nolint:errcheck // progress nobody reads is no fault
			})
			if err != nil {
				return err
			}
			if bare {
				return nil
			}
			_, err = fmt.Fprintln(s.out, l.Inventory())
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&controlPlanes, "control-planes", 1, "`number` of control planes, each with etcd")
	f.IntVar(&workers, "workers", 2, "`number` of workers")
	f.IntVar(&spares, "spares", 0, "`number` of further workers that are left out of the inventory")
	f.StringVar(&memory, "memory", "2G", "memory of each machine, as in 1536M or 2G; only what is used is taken")
	f.BoolVar(&dualStack, "dual-stack", false, "an inventory with IPv4 and IPv6 (machines have both anyway)")
	f.BoolVar(&bare, "bare", false, "machines alone, no inventory")
	return cmd
}

// parseMemory gives MiB.
func parseMemory(s string) (int, error) {
	factor := 1
	digits, giga := strings.CutSuffix(s, "G")
	if giga {
		factor = 1024
	} else {
		digits = strings.TrimSuffix(s, "M")
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n <= 0 || digits == s {
		return 0, fmt.Errorf("memory %q: must be a number of megabytes or gigabytes, as in 1536M or 2G", s)
	}
	return n * factor, nil
}

func newLabDown(s streams, name *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove the lab: machines, network, disks, keys",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{*name}
			if all {
				var err error
				if names, err = lab.Names(); err != nil {
					return err
				}
			}
			known, err := lab.Names()
			if err != nil {
				return err
			}
			var errs []error
			for _, n := range names {
				if !slices.Contains(known, n) {
					fmt.Fprintf(s.err, "there is no lab %s; what may be left of one is removed\n", n) //nolint:errcheck // as for progress
				}
				err := lab.Down(cmd.Context(), n)
				if err == nil && slices.Contains(known, n) {
					fmt.Fprintln(s.err, "removed lab", n) //nolint:errcheck // as for progress
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every lab of this user, whatever --name says")
	return cmd
}

// labView is one lab in `muster lab list -o json`.
type labView struct {
	Name      string       `json:"name"`
	Namespace string       `json:"namespace"`
	API       string       `json:"api,omitempty"`
	Inventory string       `json:"inventory"`
	Machines  []lab.Status `json:"machines"`
}

func newLabList(s streams) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List labs and their machines",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			views, err := labViews()
			if err != nil {
				return err
			}
			switch format {
			case "json":
				e := json.NewEncoder(s.out)
				e.SetIndent("", "  ")
				return e.Encode(struct {
					APIVersion string    `json:"apiVersion"`
					Labs       []labView `json:"labs"`
				}{"muster/v1", views})
			case "text":
				return printLabs(s.out, views)
			}
			return fmt.Errorf("output format %q: not one of text, json", format)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

func labViews() ([]labView, error) {
	names, err := lab.Names()
	if err != nil {
		return nil, err
	}
	views := []labView{}
	for _, n := range names {
		l, err := lab.Open(n)
		if errors.Is(err, os.ErrNotExist) {
			// Made halfway: nothing to tell but that down will remove it.
			views = append(views, labView{Name: n, Machines: []lab.Status{}})
			continue
		}
		if err != nil {
			return nil, err
		}
		machines, err := l.Machines()
		if err != nil {
			return nil, err
		}
		views = append(views, labView{n, l.Namespace(), l.API(), l.Inventory(), machines})
	}
	return views, nil
}

func printLabs(out io.Writer, views []labView) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LAB\tMACHINE\tSTATE\tADDRESS\tSSH\tMEMORY\tROLES") //nolint:errcheck // Flush tells
	for _, v := range views {
		for _, m := range v.Machines {
			roles := strings.Join(m.Roles, ",")
			if m.Spare {
				roles += " (spare)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t127.0.0.1:%d\t%dM\t%s\n", //nolint:errcheck // Flush tells
				v.Name, m.Name, m.State, m.Address, m.SSHPort, m.MemoryMiB, roles)
		}
		if len(v.Machines) == 0 {
			fmt.Fprintf(w, "%s\t-\tincomplete\t-\t-\t-\t-\n", v.Name) //nolint:errcheck // Flush tells
		}
	}
	return w.Flush()
}

func newLabSSH(s streams, name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh MACHINE [-- COMMAND...]",
		Short: "Log in to a machine, or run a command there",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			argv, err := l.SSH(args[0])
			if err != nil {
				return err
			}
			argv = append(argv, args[1:]...)
			// A Ctrl-C is ssh's to handle, not a reason to kill it.
			c := exec.CommandContext(context.WithoutCancel(cmd.Context()), argv[0], argv[1:]...)
			c.Stdin, c.Stdout, c.Stderr = s.in, s.out, s.err
			if err := c.Run(); err != nil {
				// Wrapped: the command's exit code becomes muster's.
				return fmt.Errorf("ssh to %s: %w", args[0], err)
			}
			return nil
		},
	}
}

func newLabConsole(s streams, name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "console MACHINE",
		Short: "Print what a machine's kernel and systemd wrote to its console",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			path, err := l.Console(args[0])
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = io.Copy(s.out, f)
			return errors.Join(err, f.Close())
		},
	}
}

// labVerb is a command that does one thing to machines.
type labVerb struct {
	use, short, done string
	do               func(*lab.Lab, context.Context, string) error
}

func labVerbs() []labVerb {
	return []labVerb{
		{"start", "Start a machine and wait for its SSH", "started", (*lab.Lab).Start},
		{"stop", "Shut a machine down", "stopped", (*lab.Lab).Stop},
		{"kill", "Take a machine's power away", "killed", (*lab.Lab).Kill},
		{"reboot", "Restart a machine from inside and wait for its SSH", "rebooted", (*lab.Lab).Reboot},
		{"pause", "Freeze a machine", "paused", (*lab.Lab).Pause},
		{"resume", "Let a paused machine go on", "resumed", (*lab.Lab).Resume},
		{"cut", "Pull a machine's network cable", "cut off", (*lab.Lab).Cut},
		{"mend", "Put a machine's network cable back", "connected", (*lab.Lab).Mend},
	}
}

func newLabVerb(s streams, name *string, v labVerb) *cobra.Command {
	return &cobra.Command{
		Use:   v.use + " MACHINE...",
		Short: v.short,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			var errs []error
			for _, machine := range args {
				begun := time.Now()
				err := v.do(l, cmd.Context(), machine)
				if err == nil {
					fmt.Fprintf(s.err, "%s %s in %.1f s\n", machine, v.done, time.Since(begun).Seconds()) //nolint:errcheck // progress
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
}

// newLabPackages prints the argument of apt-get install.
func newLabPackages(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "packages",
		Short: "Print the Debian packages that a lab is built with",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(s.out, strings.Join(lab.Packages(), " "))
			return err
		},
	}
}

// newLabForward is started by `muster lab up` and by nobody else.
func newLabForward() *cobra.Command {
	return &cobra.Command{
		Use:    "forward TARGETS...",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			return lab.Forward(ctx, args)
		},
	}
}

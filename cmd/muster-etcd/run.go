// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/muster-project/muster/etcd"
	"github.com/muster-project/muster/etcd/member"
)

// Exit codes, see the command's documentation.
const (
	exitError     = 1
	exitUsage     = 2
	exitUnhealthy = 3
)

// askTimeout bounds health and members. etcd itself answers "no leader" after
// up to 7 seconds (its request timeout), which is worth waiting for.
const askTimeout = 10 * time.Second

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errUnhealthy says that the report printed is a bad one.
var errUnhealthy = errors.New("etcd member is not healthy")

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "muster-etcd:", err)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errUnhealthy):
		return exitUnhealthy
	default:
		return exitError
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) error {
	var config, output string
	root := &cobra.Command{
		Use:           "muster-etcd",
		Short:         "One member of a cluster's etcd",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			return usageError{fmt.Errorf("want a command: serve, health or members; got %q", args)}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&config, "config", "/etc/muster/etcd.yaml", "configuration of the member")

	serve := command("serve", "Run the member until SIGTERM", func(ctx context.Context) error {
		return serve(ctx, config)
	})
	health := command("health", "Ask the local member whether it can serve", func(ctx context.Context) error {
		return health(ctx, config, output, out)
	})
	members := command("members", "List the members of the cluster", func(ctx context.Context) error {
		return members(ctx, config, output, out)
	})
	for _, c := range []*cobra.Command{health, members} {
		c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	}
	root.AddCommand(serve, health, members)
	return root.ExecuteContext(ctx)
}

func command(name, short string, do func(context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%s takes no arguments, got %q", name, args)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return do(c.Context()) },
	}
}

func serve(ctx context.Context, path string) error {
	c, err := etcd.Load(path)
	if err != nil {
		return err
	}
	// Without systemd there is nobody to tell, which is not an error.
	context.AfterFunc(ctx, func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) })
	return member.Serve(ctx, c, func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) })
}

func health(ctx context.Context, path, output string, out io.Writer) error {
	c, err := load(path, output)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	report, err := member.Health(ctx, c)
	if err != nil {
		return err
	}
	if output == "json" {
		err = printJSON(out, report)
	} else {
		err = printHealth(out, report)
	}
	if err != nil {
		return err
	}
	if !report.Healthy {
		return fmt.Errorf("%w: %s", errUnhealthy, report.Problem)
	}
	return nil
}

func members(ctx context.Context, path, output string, out io.Writer) error {
	c, err := load(path, output)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := member.Members(ctx, c)
	if err != nil {
		return err
	}
	if output == "json" {
		return printJSON(out, list)
	}
	return printMembers(out, list)
}

func load(path, output string) (etcd.Config, error) {
	if output != "text" && output != "json" {
		return etcd.Config{}, usageError{fmt.Errorf("output %q: want text or json", output)}
	}
	return etcd.Load(path)
}

func printJSON[T etcd.Health | etcd.MemberList](out io.Writer, v T) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printHealth(out io.Writer, h etcd.Health) error {
	state := "healthy"
	if !h.Healthy {
		state = "NOT healthy"
	}
	_, err := fmt.Fprintf(out, "%s: %s, %d members (%d learners), leader %s, database %d bytes of %d\n",
		h.Member, state, h.Members, h.Learners, orNone(h.LeaderID), h.DBSize, h.DBQuota)
	return err
}

func printMembers(out io.Writer, list etcd.MemberList) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tPEER\tCLIENT\tLEARNER")
	for _, m := range list.Members {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\n", m.ID, orNone(m.Name),
			strings.Join(m.PeerURLs, ","), orNone(strings.Join(m.ClientURLs, ",")), m.Learner)
	}
	return w.Flush()
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

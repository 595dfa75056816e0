// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/kubeconfig"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
)

func newResetCommand(s streams) *cobra.Command {
	var flags clusterFlags
	var yes bool
	var kube kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Take the cluster away and return the hosts to what they were",
		Long: "Ends everything that runs in the cluster, deletes its data, replays the journal of\n" +
			"each host backwards, and compares the host with how it was before the install.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, true)
			if err != nil {
				return err
			}
			defer c.close()
			if err := c.confirm(cmd.Context(), yes); err != nil {
				return err
			}
			if err := c.others(cmd.Context()); err != nil {
				return err
			}
			return c.reset(cmd.Context(), kube)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&kube.path, "kubeconfig", "", "file to take the cluster from (default: as kubectl has it)")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// others refuses hosts that carry the mark of another cluster. Hosts that
// cannot be asked are reported when it is their turn to be reset.
func (s *session) others(ctx context.Context) error {
	found, _ := s.operator.Facts(ctx, s.names())
	var errs []error
	for _, name := range s.names() {
		if f, ok := found[name]; ok && f.Cluster != "" && f.Cluster != s.inventory.Cluster {
			errs = append(errs, &foreignError{name, f.Cluster, s.inventory.Cluster})
		}
	}
	if len(errs) > 0 {
		errs = append(errs, errUntouched)
	}
	return errors.Join(errs...)
}

// foreignError is a host of another cluster.
type foreignError struct{ host, has, file string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s belongs to cluster %s, the inventory is of cluster %s: use the other cluster's file", e.host, e.has, e.file)
}

// ExitCode is that of unfit hosts.
func (e *foreignError) ExitCode() int { return exitPreflight }

// confirm has the person type the cluster's name: what follows cannot be
// undone.
func (s *session) confirm(ctx context.Context, yes bool) error {
	if yes {
		return nil
	}
	fmt.Fprintf(s.err, "This deletes cluster %s with all its data on %s. Type the cluster's name to go on: ",
		s.inventory.Cluster, plural(len(s.inventory.Hosts), "host"))
	answer := make(chan string, 1)
	go func() { // left behind when Ctrl-C comes first: a read cannot be taken back
		line, _ := bufio.NewReader(s.in).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.err)
		return errUntouched
	case line := <-answer:
		if line != s.inventory.Cluster {
			return errors.New("reset: not confirmed; nothing was changed (--yes goes without asking)")
		}
	}
	return nil
}

// reset does all hosts side by side; one that cannot be reached does not keep
// the others from it.
func (s *session) reset(ctx context.Context, kube kubeconfigFlags) error {
	// The CA tells which entries of the kubeconfig are this cluster's; soon
	// nobody will have it. Without it there is nothing to find them by.
	ca, caErr := s.operator.Authority(ctx, pki.Kubernetes)
	errs := make([]error, len(s.inventory.Hosts))
	var mu sync.Mutex // one line at a time
	var all sync.WaitGroup
	for i, name := range s.names() {
		all.Go(func() {
			start := time.Now()
			left, err := s.resetHost(ctx, name, func(line string) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintln(s.err, line)
			})
			mu.Lock()
			defer mu.Unlock()
			errs[i] = err
			switch {
			case err != nil:
				return
			case len(left) == 0:
				fmt.Fprintf(s.out, "%s is as it was before the install (%.1fs)\n", name, time.Since(start).Seconds())
			default:
				fmt.Fprintf(s.out, "%s is reset, but differs from before the install:\n  %s\n", name, strings.Join(left, "\n  "))
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil || caErr != nil {
		return err
	}
	return s.forget(kube, ca)
}

// forget takes the cluster out of the operator's kubeconfig.
func (s *session) forget(kube kubeconfigFlags, ca []byte) error {
	if err := kube.defaults(s.inventory.Cluster); err != nil {
		return err
	}
	names, err := kubeconfig.Remove(kube.path, ca)
	if err != nil {
		return fmt.Errorf("take the cluster out of your kubeconfig: %w", err)
	}
	for _, name := range names {
		fmt.Fprintf(s.out, "context %s is no longer in %s\n", name, kube.path)
	}
	return nil
}

func (s *session) resetHost(ctx context.Context, name string, say func(string)) (left []string, err error) {
	conn, err := s.operator.Host(ctx, name)
	if err != nil {
		return nil, &operator.HostError{Host: name, Err: fmt.Errorf("%w; it was NOT reset: run the same command again once it can be reached", err)}
	}
	var failed *plan.Error
	err = conn.Reset(ctx, func(e protocol.Event) {
		if e.State == protocol.Failed {
			failed = &plan.Error{Host: name, Phase: "reset", Step: e.Text, Cause: errors.New(e.Cause), Evidence: e.Evidence}
			return
		}
		left = append(left, e.Evidence...)
		say(fmt.Sprintf("%6.1fs  %-12s %s", e.Took.Seconds(), name, e.Text))
	})
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, &operator.HostError{Host: name, Err: err}
	}
	return left, nil
}

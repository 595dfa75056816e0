// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// runAll runs the specs that have no result yet: several at a time, then the
// serial ones alone. What the budget does not suffice for is left.
func (w *work) runAll(ctx context.Context, o options, chosen []spec, r *results) (err error) {
	var together, alone []spec
	for _, s := range chosen {
		switch known, ok := r.of(s.name); {
		case !o.focus.MatchString(s.name), ok && (!o.again || known.State == passed):
		case s.serial:
			alone = append(alone, s)
		default:
			together = append(together, s)
		}
	}
	total := len(together) + len(alone)
	if total == 0 {
		w.say("every chosen spec has a result (-again and -fresh run them again)")
		return nil
	}
	c, err := w.open(ctx, o)
	if err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, c.close(ctx)) }()
	}
	ctx, stop := w.startBalancer(ctx, c)
	defer func() { err = errors.Join(err, stop()) }()
	w.say("running %d specs", total)
	session := &session{work: w, cluster: c, results: r, limit: o.limit, end: time.Now().Add(o.budget), total: total}
	if err := session.run(ctx, slices.Chunk(together, o.batch), o.atOnce); err != nil {
		return err
	}
	if err := session.run(ctx, slices.Chunk(alone, 1), 1); err != nil {
		return err
	}
	if left := int64(total) - session.done.Load(); left > 0 {
		w.say("%d specs have no result: the -budget is used up; run this again, it goes on there", left)
	}
	return nil
}

// startBalancer starts the lab's load balancer. When that ends before stop is
// called, so does the context: specs would fail for no fault of the cluster.
func (w *work) startBalancer(ctx context.Context, c *cluster) (_ context.Context, stop func() error) {
	balancing, cancelBalancer := context.WithCancel(ctx)
	running, cancel := context.WithCancelCause(ctx)
	b := newBalancer(w.say, c.lab.Namespace(), workers(), w.kubectl(), "--kubeconfig="+c.kubeconfig)
	ended := make(chan error, 1)
	go func() {
		err := b.run(balancing)
		cancel(err)
		ended <- err
	}()
	return running, func() error {
		cancelBalancer()
		return <-ended
	}
}

// session runs specs against one cluster.
type session struct {
	*work
	*cluster
	results *results
	limit   time.Duration
	end     time.Time
	total   int
	done    atomic.Int64
}

func (s *session) run(ctx context.Context, batches iter.Seq[[]spec], atOnce int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for batch := range batches {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if time.Now().After(s.end) {
				return nil
			}
			return s.batch(ctx, batch)
		})
	}
	return group.Wait()
}

// batch runs specs and keeps their results.
func (s *session) batch(ctx context.Context, specs []spec) error {
	found, err := s.try(ctx, specs)
	if err != nil {
		return fmt.Errorf("run %q and those with it: %w", specs[0].name, err)
	}
	for _, r := range found {
		r.Ended = time.Now()
		if err := s.results.add(r); err != nil {
			return err
		}
		text := string(r.State)
		if r.Reason != "" {
			text += " (" + r.Reason + ")"
		}
		s.say("%d/%d %s: %s, %.0fs", s.done.Add(1), s.total, r.Spec, text, r.Seconds)
	}
	return nil
}

// afterLimit is what a process that is over its limit has for cleaning up.
const afterLimit = 2 * time.Minute

// try runs one process, inside of the lab's network.
func (s *session) try(ctx context.Context, batch []spec) ([]result, error) {
	dir, err := os.MkdirTemp(s.dir, "specs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	log, err := os.Create(filepath.Join(s.resultsDir(), logName(batch[0].name)))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // it is for people, and nobody is left to tell
	report := filepath.Join(dir, "report.json")
	limit := s.limit * time.Duration(len(batch))
	limited, cancel := context.WithTimeout(ctx, limit+afterLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, "ip", "netns", "exec", s.lab.Namespace(), s.suite.program(),
		"--provider=local", "--kubeconfig="+s.kubeconfig, "--host="+apiServer, "--kubectl-path="+s.kubectl(),
		"--e2e-output-dir="+dir, "--disable-log-dump", "--max-nodes-to-gather-from=0",
		"--ginkgo.no-color", "--ginkgo.v", "--ginkgo.timeout="+limit.String(),
		"--ginkgo.focus="+focus(batch), "--ginkgo.json-report="+report)
	key := filepath.Join(filepath.Dir(s.lab.Inventory()), "id_ed25519")
	cmd.Env = append(os.Environ(), "KUBE_SSH_USER=root", "KUBE_SSH_KEY_PATH="+key)
	cmd.Stdout, cmd.Stderr = log, log
	// An interrupted test cleans up and still writes its report.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	runErr := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	raw, err := os.ReadFile(report)
	if errors.Is(err, fs.ErrNotExist) && runErr != nil {
		return failAll(batch, "its process left no report: "+runErr.Error()), nil
	}
	if err != nil {
		return nil, err
	}
	return outcomes(raw, batch)
}

// logName is the name of the file that keeps what a process said, by its first
// spec.
func logName(spec string) string {
	sum := sha256.Sum256([]byte(spec))
	return fmt.Sprintf("%x.log", sum[:6])
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := session.run(ctx, together, o.atOnce); err != nil {
		return err
	}
	return session.run(ctx, alone, 1)
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

func (s *session) run(ctx context.Context, specs []spec, atOnce int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, one := range specs {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if time.Now().After(s.end) {
				return fmt.Errorf("%d of %d specs have no result yet when the -budget is used up: run this again, it goes on there",
					int64(s.total)-s.done.Load(), s.total)
			}
			return s.one(ctx, one)
		})
	}
	return group.Wait()
}

// one runs a spec and keeps its result.
func (s *session) one(ctx context.Context, one spec) error {
	start := time.Now()
	r, err := s.try(ctx, one)
	if err != nil {
		return fmt.Errorf("run %q: %w", one.name, err)
	}
	r.Ended = time.Now()
	if err := s.results.add(r); err != nil {
		return err
	}
	text := string(r.State)
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	s.say("%d/%d %s: %s, %.0fs", s.done.Add(1), s.total, one.name, text, time.Since(start).Seconds())
	return nil
}

// afterLimit is what a spec that is over its limit has for cleaning up.
const afterLimit = 2 * time.Minute

// try runs the process of one spec, inside of the lab's network.
func (s *session) try(ctx context.Context, one spec) (result, error) {
	dir, err := os.MkdirTemp(s.dir, "spec-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	log, err := os.Create(filepath.Join(s.resultsDir(), logName(one.name)))
	if err != nil {
		return result{}, err
	}
	defer log.Close() //nolint:errcheck // it is for people, and nobody is left to tell
	report := filepath.Join(dir, "report.json")
	limited, cancel := context.WithTimeout(ctx, s.limit+afterLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, "ip", "netns", "exec", s.lab.Namespace(), s.suite.program(),
		"--provider=local", "--kubeconfig="+s.kubeconfig, "--host="+apiServer, "--kubectl-path="+s.kubectl(),
		"--e2e-output-dir="+dir, "--disable-log-dump",
		"--ginkgo.no-color", "--ginkgo.v", "--ginkgo.timeout="+s.limit.String(),
		"--ginkgo.focus="+one.focus(), "--ginkgo.json-report="+report)
	key := filepath.Join(filepath.Dir(s.lab.Inventory()), "id_ed25519")
	cmd.Env = append(os.Environ(), "KUBE_SSH_USER=root", "KUBE_SSH_KEY_PATH="+key)
	cmd.Stdout, cmd.Stderr = log, log
	// An interrupted test cleans up and still writes its report.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	runErr := cmd.Run()
	if ctx.Err() != nil {
		return result{}, context.Cause(ctx)
	}
	raw, err := os.ReadFile(report)
	if errors.Is(err, fs.ErrNotExist) {
		return result{}, fmt.Errorf("it left no report (%w); %s has what it said", runErr, log.Name())
	}
	if err != nil {
		return result{}, err
	}
	return one.outcome(raw)
}

// logName is the name of the file that keeps what the process of a spec said.
func logName(spec string) string {
	sum := sha256.Sum256([]byte(spec))
	return fmt.Sprintf("%x.log", sum[:6])
}

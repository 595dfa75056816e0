// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/procfs"
)

// How much is measured. Every contender gets the same.
const (
	singleChanges    = 20
	fewestChanges    = 5
	changesTime      = 2 * time.Minute // after this the fewest are enough
	rollingServices  = 20
	rollingEndpoints = rollingServices * perService
	rollingPause     = 20 * time.Millisecond // between two events
	tracedChanges    = 5
	// changePause is more than kube-proxy rests between two passes (its
	// minSyncPeriod is a second), so that no change waits for another.
	changePause = 1200 * time.Millisecond
	// restTime is more than kube-proxy's syncPeriod of 30 s.
	restTime    = 35 * time.Second
	loadTime    = 3 * time.Second
	loadClients = 4
	// quietCPU is what a contender may use of the core and count as being at
	// rest.
	quietCPU  = 0.02
	quietTime = 2 * time.Second
)

// session is one contender at one size, being measured.
type session struct {
	who       contender
	cluster   cluster
	bound     time.Duration // of each measurement
	api       *api
	eye       eye
	network   *network
	process   *process
	forks     *forks
	programs  string
	dir       string
	serving   [][]netip.Addr // by Service: its endpoints now
	replaced  []int          // by Service: how often an endpoint was replaced
	result    result
	progress  io.Writer
	beginning time.Time
}

// measureNode is the program inside the machine. It runs in a network
// namespace of its own, which is a node that no contender has touched.
func measureNode(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	s := &session{progress: errOut, beginning: time.Now()}
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	flags.SetOutput(errOut)
	who := flags.String("contender", "", "who")
	memoryOnly := flags.Bool("memory-only", false, "measure the cold start and memory, no more")
	flags.IntVar(&s.cluster.services, "services", 100, "how many")
	flags.DurationVar(&s.bound, "bound", 10*time.Minute, "of each measurement")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.who = contender(*who)
	s.result = result{Contender: s.who, Services: s.cluster.services}
	s.cluster.created = time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	defer func() { err = errors.Join(err, s.close()) }()
	steps := []func(context.Context) error{s.cold, s.settle, s.change, s.rolling, s.settle, s.rest, s.resync, s.data, s.trace}
	if *memoryOnly {
		steps = []func(context.Context) error{s.cold, s.settle, s.memory}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if s.result.Cold.Over {
			break // what is not complete cannot be compared
		}
	}
	return json.NewEncoder(out).Encode(s.result)
}

func (s *session) say(format string, args ...any) {
	fmt.Fprintf(s.progress, "  %6.1fs  %s\n", time.Since(s.beginning).Seconds(), fmt.Sprintf(format, args...))
}

// open prepares everything but the contender.
func (s *session) open(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.programs = filepath.Dir(self)
	if s.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	if s.network, err = newNetwork(ctx); err != nil {
		return err
	}
	for i := range s.cluster.services {
		s.serving = append(s.serving, initial(i))
	}
	s.replaced = make([]int, s.cluster.services)
	if s.api, err = newAPI(s.cluster); err != nil {
		return err
	}
	if s.forks, err = watchForks(); err != nil {
		return err
	}
	if s.eye, err = openEye(s.who); err != nil {
		return err
	}
	return s.quiet(ctx)
}

// quiet waits until the machine is idle: the kernel takes what the contender
// before left apart in its own time.
func (s *session) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errOver)
	defer cancel()
	for {
		before, err := idleTime()
		if err != nil {
			return err
		}
		if err := pause(ctx, quietTime); errors.Is(err, errOver) {
			s.say("the machine does not come to rest")
			return nil
		} else if err != nil {
			return err
		}
		after, err := idleTime()
		if err != nil || after-before > 0.9*quietTime.Seconds() {
			return err
		}
	}
}

// idleTime is for how many seconds the machine's core had nothing to do.
func idleTime() (float64, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	stat, err := fs.Stat()
	return stat.CPUTotal.Idle, err
}

func (s *session) close() error {
	var faults []error
	if s.process != nil {
		faults = append(faults, s.process.stop())
	}
	if s.forks != nil {
		s.forks.close()
	}
	if s.eye != nil {
		faults = append(faults, s.eye.close())
	}
	if s.network != nil {
		faults = append(faults, s.network.stop())
	}
	return errors.Join(append(faults, os.RemoveAll(s.dir))...)
}

// within bounds one measurement.
func (s *session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.bound, errOver)
}

var errOver = errors.New("not within the bound")

// until waits for ok and says how long it took since a time, or that the bound
// was over first.
func (s *session) until(ctx context.Context, since time.Time, ok func() (bool, error)) (bounded, error) {
	took, err := await(ctx, since, s.process.alive(ok))
	if errors.Is(err, errOver) {
		return bounded{Took: took, Over: true}, nil
	}
	return bounded{Took: took}, err
}

// cold starts the API and the contender and waits for the kernel.
func (s *session) cold(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.api, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // a contender without an API ends the measurement
	context.AfterFunc(ctx, func() { _ = server.Close() })
	ctx, cancel := s.within(ctx)
	defer cancel()
	begin := time.Now()
	if s.process, err = s.who.start(context.WithoutCancel(ctx), s.dir, s.programs, listener.Addr().String()); err != nil {
		return err
	}
	s.forks.follow(s.process.command.Process.Pid)
	s.result.Cold, err = s.until(ctx, begin, func() (bool, error) { return s.eye.complete(s.cluster) })
	if err != nil {
		return fmt.Errorf("cold start: %w\n%s", err, s.process.output)
	}
	if s.result.ColdCPU, err = s.process.cpu(); err != nil {
		return err
	}
	s.result.ColdForks, err = s.forks.so()
	s.say("cold start: %.2fs, over the bound: %v, %.2fs of CPU, %d forks", s.result.Cold.Took.Seconds(), s.result.Cold.Over,
		s.result.ColdCPU.Seconds(), s.result.ColdForks)
	return err
}

// settle waits until the contender is at rest; one that never is goes on after
// the bound all the same.
func (s *session) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, min(s.bound, 2*time.Minute), errOver)
	defer cancel()
	for {
		before, err := s.process.cpu()
		if err != nil {
			return err
		}
		if err := pause(ctx, quietTime); errors.Is(err, errOver) {
			s.say("does not come to rest")
			return nil
		} else if err != nil {
			return err
		}
		after, err := s.process.cpu()
		if err != nil || (after-before).Seconds() < quietCPU*quietTime.Seconds() {
			return err
		}
	}
}

// pause waits for a time, or for the end of ctx, whose cause it returns.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// replace gives a Service a new endpoint in the place of one it has, and
// returns the new one.
func (s *session) replace(service, endpoint int) (netip.Addr, error) {
	s.replaced[service]++
	now := podAddr(service, endpoint, s.replaced[service])
	s.serving[service][endpoint] = now
	return now, s.api.setEndpoints(s.cluster, service, s.serving[service])
}

// spread picks the n-th of some Services that are far apart; the first
// Service, whose endpoints are real, is left alone.
func (s *session) spread(n int) int {
	const step = 7919 // a prime
	return 1 + n*step%(s.cluster.services-1)
}

// change replaces single endpoints.
func (s *session) change(ctx context.Context) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	begin := time.Now()
	for n := range singleChanges {
		if n >= fewestChanges && time.Since(begin) > changesTime {
			break
		}
		if err := pause(ctx, changePause); errors.Is(err, errOver) {
			break // those that were made count
		} else if err != nil {
			return err
		}
		took, err := s.changeOnce(ctx, n)
		if err != nil {
			return fmt.Errorf("change %d: %w", n, err)
		}
		s.result.Changes = append(s.result.Changes, took.Took)
		if took.Over {
			s.result.Late = true
			break
		}
	}
	s.say("%d changes: median %s, p99 %s", len(s.result.Changes), s.result.change(0.5).Took, s.result.change(0.99).Took)
	return nil
}

func (s *session) changeOnce(ctx context.Context, n int) (bounded, error) {
	service := s.spread(n)
	begin := time.Now()
	endpoint, err := s.replace(service, n%perService)
	if err != nil {
		return bounded{}, err
	}
	return s.until(ctx, begin, func() (bool, error) { return s.eye.serves(service, endpoint) })
}

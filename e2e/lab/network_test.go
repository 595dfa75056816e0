// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The main thread decides which namespace a process counts for, and it cannot
// be ended; so it must never be the one that is changed.
func TestOnThreadSparesTheMainThread(t *testing.T) {
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			err := onThread(netns.None(), -1, func() error {
				if unix.Gettid() == os.Getpid() {
					return errors.New("on the main thread")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestCoresAreTakenInTurn(t *testing.T) {
	c := cores{0: 1, 1: 0, 2: 1}
	c.add(3) // not usable here
	var got []int
	for range 5 {
		got = append(got, c.take())
	}
	if want := []int{1, 0, 1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Two labs on one computer must not share its first processor while the
// second one idles.
func TestCoresCountOtherLabs(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	usable := must[[]int](t)(usableCores())
	d := must[labDir](t)(dirOf("other"))
	r := threeMachines(t)
	for i := range r.Machines {
		r.Machines[i].Core = usable[0]
	}
	if err := errors.Join(os.MkdirAll(d.machine("w-1"), 0o700), d.save(r), sleeper(t).save(d.machine("w-1", processFile))); err != nil {
		t.Fatal(err)
	}
	for except, want := range map[string]int{"demo": 1, "other": 0} {
		if c := must[cores](t)(newCores(except)); c[usable[0]] != want || len(c) != len(usable) {
			t.Errorf("all labs but %s: %v, want %d on processor %d", except, c, want, usable[0])
		}
	}
}

func TestOnThreadPinsTheThreadAlone(t *testing.T) {
	cores := must[[]int](t)(usableCores())
	err := onThread(netns.None(), cores[len(cores)-1], func() error {
		pinned, err := usableCores()
		if err != nil || len(pinned) != 1 || pinned[0] != cores[len(cores)-1] {
			t.Errorf("inside: %v, %v", pinned, err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := must[[]int](t)(usableCores()); len(after) != len(cores) {
		t.Errorf("outside: %v, before %v", after, cores)
	}
	cause := errors.New("no")
	if err := onThread(netns.None(), -1, func() error { return cause }); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

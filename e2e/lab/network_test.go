// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
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

// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// cores counts machines by the number of the processor that they run on. Each
// machine has one processor: UML moved between two is ten times slower in all
// that crosses its kernel.
type cores map[int]int

// newCores counts the running machines of all labs but one on the processors
// that this process may use.
func newCores(except string) (cores, error) {
	usable, err := usableCores()
	if err != nil {
		return nil, err
	}
	count := cores{}
	for _, c := range usable {
		count[c] = 0
	}
	labs, err := names()
	if err != nil {
		return nil, err
	}
	for _, name := range labs {
		if name != except {
			count.addLab(name)
		}
	}
	return count, nil
}

// addLab counts what it can read of another lab: one that is broken, or is
// being removed, is no reason against this one.
func (c cores) addLab(name string) {
	l, err := Open(name)
	if err != nil {
		return
	}
	for _, m := range l.record.Machines {
		p, err := loadProcess(l.dir.machine(m.Name, processFile))
		if err != nil {
			continue
		}
		if state, err := p.State(); err == nil && state != Stopped {
			c.add(m.Core)
		}
	}
}

// add counts one machine more. A processor that this process may not use is
// none of its choices.
func (c cores) add(core int) {
	if _, usable := c[core]; usable {
		c[core]++
	}
}

// take gives the processor with the fewest machines, of several the one with
// the lowest number, and counts one more there.
func (c cores) take() int {
	best := -1
	for core, n := range c {
		if best < 0 || n < c[best] || n == c[best] && core < best {
			best = core
		}
	}
	c[best]++
	return best
}

// usableCores lists the processors that this process may run on.
func usableCores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("ask for the usable processors: %w", err)
	}
	var list []int
	for i := 0; len(list) < set.Count(); i++ {
		if set.IsSet(i) {
			list = append(list, i)
		}
	}
	return list, nil
}

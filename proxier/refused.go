// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ChangeError is a change the kernel refused, mostly because somebody else
// was there before: an object exists already (EEXIST) or is gone (ENOENT,
// ESRCH).
type ChangeError struct {
	Change ServerChange
	Err    error
}

func (e *ChangeError) Error() string { return fmt.Sprintf("%s: %v", e.Change, e.Err) }
func (e *ChangeError) Unwrap() error { return e.Err }

// Refused are the changes of one Plan that the kernel refused, at least one.
type Refused []*ChangeError

// namedRefusals bounds the text: a kernel that somebody flushed refuses
// everything.
const namedRefusals = 10

func (r Refused) Error() string {
	var lines []string
	for _, e := range r[:min(len(r), namedRefusals)] {
		lines = append(lines, e.Error())
	}
	if more := len(r) - namedRefusals; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more changes", more))
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes each of them known to [errors.Is] and [errors.As].
func (r Refused) Unwrap() []error {
	list := make([]error, len(r))
	for i, e := range r {
		list[i] = e
	}
	return list
}

// Err is r as an error, nil if nothing was refused.
func (r Refused) Err() error {
	if len(r) == 0 {
		return nil
	}
	return r
}

// Spare picks what of After may follow: nothing may lead to a frontend that is
// not complete, nor be taken from one that is still there, but the other
// frontends must not wait for it.
func (r Refused) Spare(after []SetChange) []SetChange {
	if len(r) == 0 {
		return after
	}
	harmed := map[Frontend]bool{}
	for _, e := range r {
		harmed[e.Change.Frontend] = true
	}
	return slices.DeleteFunc(slices.Clone(after), func(c SetChange) bool {
		f := c.Element.Frontend()
		return harmed[f] || c.Element.Set == SetSplit && harmed[Frontend{Addr: c.Element.Target(), Proto: f.Proto}]
	})
}

// without is what of p was done, as far as it is known, when r were refused
// and nothing else went wrong. Of a virtual server that was there already,
// nothing is known.
func (p Plan) without(r Refused) Plan {
	if len(r) == 0 {
		return p
	}
	refused, unknown := map[ServerChange]bool{}, map[Frontend]bool{}
	for _, e := range r {
		refused[e.Change] = true
		unknown[e.Change.Frontend] = unknown[e.Change.Frontend] || e.Change.Verb == AddServer
	}
	p.Servers = slices.DeleteFunc(slices.Clone(p.Servers), func(c ServerChange) bool { return refused[c] || unknown[c.Frontend] })
	p.After = r.Spare(p.After)
	return p
}

// onlyRefused tells whether single changes were refused and everything else
// was done.
func onlyRefused(err error) (Refused, bool) {
	var r Refused
	if !errors.As(err, &r) {
		return nil, false
	}
	_, alone := err.(Refused) //nolint:errorlint // joined with another error, it is not all that went wrong
	return r, alone
}

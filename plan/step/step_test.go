// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

// sample is one step of a kind and everything that can be wrong with it.
type sample struct {
	kind string
	// make prepares a host on which the step is not done, and returns the step.
	make func(w *steptest.World) step.Step
	// follows is what the host does by itself once the step was done.
	follows func(w *steptest.World)
	// fulfil makes a condition hold.
	fulfil func(w *steptest.World)
	// corrupt spoils what the step has done, by what is wrong then.
	corrupt map[string]func(w *steptest.World)
	// hopeless names corruptions that Do must not repair by itself.
	hopeless []string
	// silence makes the question impossible to ask.
	silence func(w *steptest.World)
}

// do has the step done, or a condition fulfilled.
func (s sample) do(t *testing.T, w *steptest.World, made step.Step) {
	t.Helper()
	if s.fulfil != nil {
		s.fulfil(w)
		return
	}
	if err := made.Do(t.Context(), w.Host); err != nil {
		t.Fatalf("%s: do: %v", made, err)
	}
	if s.follows != nil {
		s.follows(w)
	}
}

func done(t *testing.T, w *steptest.World, s step.Step, want bool) {
	t.Helper()
	got, err := s.Done(t.Context(), w.Host)
	if err != nil {
		t.Fatalf("%s: done: %v", s, err)
	}
	if got != want {
		t.Fatalf("%s: done is %t, want %t", s, got, want)
	}
}

// Every kind is in the table, so every kind passes the tests below.
func TestEveryKindHasASample(t *testing.T) {
	var have []string
	for _, s := range samples() {
		have = append(have, s.kind)
		if kind, err := step.KindOf(s.make(steptest.New(t))); err != nil || kind != s.kind {
			t.Errorf("sample %s is a %s (%v)", s.kind, kind, err)
		}
	}
	slices.Sort(have)
	if have = slices.Compact(have); !slices.Equal(have, step.KindNames()) {
		t.Errorf("samples for %v,\nkinds are %v", have, step.KindNames())
	}
}

// Not done, done, and done twice is done once.
func TestEveryKindConverges(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.kind, func(t *testing.T) {
			w := steptest.New(t)
			made := s.make(w)
			if now, err := made.Done(t.Context(), w.Host); now || (err != nil && s.fulfil == nil) {
				t.Fatalf("%s: done at the start: %t, %v", made, now, err)
			}
			s.do(t, w, made)
			done(t, w, made, true)
			s.do(t, w, made)
			done(t, w, made, true)
			before := w.Tree()
			done(t, w, made, true)
			if after := w.Tree(); after != before {
				t.Errorf("%s: asking changed the host from\n%s\nto\n%s", made, before, after)
			}
		})
	}
}

// Whatever is wrong is noticed, and put right where that is safe.
func TestEveryKindNoticesCorruption(t *testing.T) {
	for _, s := range samples() {
		for what, corrupt := range s.corrupt {
			t.Run(s.kind+"/"+what, func(t *testing.T) {
				w := steptest.New(t)
				made := s.make(w)
				s.do(t, w, made)
				corrupt(w)
				now, err := made.Done(t.Context(), w.Host)
				if now {
					t.Fatalf("%s: still done", made)
				}
				if slices.Contains(s.hopeless, what) {
					before := w.Tree()
					if doing := made.Do(t.Context(), w.Host); err == nil && doing == nil {
						t.Errorf("%s: done anew without a word", made)
					}
					if after := w.Tree(); after != before {
						t.Errorf("%s: changed the host from\n%s\nto\n%s", made, before, after)
					}
					return
				}
				if err != nil && s.fulfil == nil {
					t.Fatalf("%s: %v", made, err)
				}
				s.do(t, w, made)
				done(t, w, made, true)
			})
		}
	}
}

// "No" and "could not ask" differ.
func TestEveryKindSaysWhenItCannotAsk(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.kind, func(t *testing.T) {
			w := steptest.New(t)
			made := s.make(w)
			s.do(t, w, made)
			s.silence(w)
			if now, err := made.Done(t.Context(), w.Host); now || err == nil {
				t.Errorf("%s: %t, %v", made, now, err)
			}
		})
	}
}

// A step is data: it travels as JSON, and prints as one line without a secret.
func TestEveryKindIsData(t *testing.T) {
	for _, s := range samples() {
		w := steptest.New(t)
		made := s.make(w)
		text, err := json.Marshal(step.List{made})
		if err != nil {
			t.Fatal(err)
		}
		var back step.List
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, step.List{made}) {
			t.Errorf("%s: came back as %#v", text, back)
		}
		s.do(t, w, made)
		for _, shown := range append([]string{made.String()}, string(text)) {
			if strings.Contains(shown, "\n") || strings.TrimSpace(shown) == "" || len(made.String()) > 120 {
				t.Errorf("%s: does not print as one line: %q", s.kind, shown)
			}
			for _, secret := range append(w.Operator.Tokens, "PRIVATE KEY") {
				if strings.Contains(shown, secret) {
					t.Errorf("%s: shows the secret %s: %s", s.kind, secret, shown)
				}
			}
		}
	}
}

// Conditions have a deadline, are never done, and touch nothing; other steps
// have none.
func TestConditions(t *testing.T) {
	for _, s := range samples() {
		w := steptest.New(t)
		made := s.make(w)
		c, waits := made.(step.Condition)
		if waits != (s.fulfil != nil) {
			t.Errorf("%s: a condition: %t, the sample says %t", s.kind, waits, s.fulfil != nil)
		}
		if !waits {
			continue
		}
		if c.Within() <= 0 || c.Touches() != nil {
			t.Errorf("%s: within %s, touches %v", c, c.Within(), c.Touches())
		}
		if err := c.Do(t.Context(), w.Host); err == nil {
			t.Errorf("%s: can be done", c)
		}
		if _, ok := made.(step.Explainer); !ok {
			t.Errorf("%s: has no evidence when it fails", c)
		}
	}
}

// Everything on disk that a step makes or changes is named by Touches, or a
// parent folder of it, or muster's own.
func TestTouchesNamesWhatChanges(t *testing.T) {
	for _, s := range samples() {
		w := steptest.New(t)
		made := s.make(w)
		before := strings.Split(w.Tree("/run", "/var/lib/muster"), "\n")
		s.do(t, w, made)
		for _, line := range strings.Split(w.Tree("/run", "/var/lib/muster"), "\n") {
			path, _, _ := strings.Cut(line, " ")
			if slices.Contains(before, line) || s.fulfil != nil || touched(made, path) {
				continue
			}
			t.Errorf("%s: changes %s and does not name it", made, path)
		}
	}
}

func touched(s step.Step, path string) bool {
	if strings.HasPrefix("/var/lib/muster", path) {
		return true // goes with muster itself
	}
	if _, module := s.(step.Module); module {
		return true // its probe is the kernel's
	}
	return slices.ContainsFunc(s.Touches(), func(t step.Touch) bool {
		name := t.Name
		switch t.Kind {
		case step.TouchSysctl:
			name = step.SysctlPath(t.Name)
		case step.TouchUnit:
			name = "/etc/systemd/system/multi-user.target.wants/" + t.Name
		case step.TouchPath, step.TouchUser:
		}
		return name == path || strings.HasPrefix(name, path+"/")
	})
}

func TestKindOfForeignStep(t *testing.T) {
	if _, err := step.KindOf(foreign{}); err == nil {
		t.Error("a type that is not in the set has a kind")
	}
	if _, err := json.Marshal(step.List{foreign{}}); err == nil {
		t.Error("a type that is not in the set travels")
	}
}

type foreign struct{}

func (foreign) String() string                                 { return "foreign" }
func (foreign) Done(context.Context, *step.Host) (bool, error) { return false, nil }
func (foreign) Do(context.Context, *step.Host) error           { return errors.New("never") }
func (foreign) Touches() []step.Touch                          { return nil }

func TestListRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`[{"kind":"warp","step":{}}]`:                                     `no such kind "warp": muster and muster-node differ in version`,
		`[{"kind":"file","step":{"Path":"/x"}},{"kind":"file","step":7}]`: "step 1 (file)",
		`[{"kind":"file"}]`:                                               "step 0 (file)",
		`{}`:                                                              "cannot unmarshal",
	} {
		var l step.List
		if err := json.Unmarshal([]byte(text), &l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// What can be read can be written and is read again as the same.
func FuzzList(f *testing.F) {
	var all step.List
	for _, s := range samples() {
		all = append(all, s.make(steptest.New(f)))
	}
	whole, err := json.Marshal(all)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(whole), `[]`, `null`, `[{"kind":"unit","step":{"Inputs":null}}]`, `[{"kind":"resolves","step":{"Server":""}}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second step.List
		if json.Unmarshal(text, &first) != nil {
			return
		}
		again, err := json.Marshal(first)
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", text, err)
		}
		if err := json.Unmarshal(again, &second); err != nil {
			t.Fatalf("%q: %v", again, err)
		}
		third, err := json.Marshal(second)
		if err != nil || string(third) != string(again) {
			t.Errorf("%q became %q (%v)", again, third, err)
		}
	})
}

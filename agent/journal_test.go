// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/plan/step"
)

const journalFile = "/var/lib/muster/journal.ndjson"

// befores reads the journal's notes of former states.
func befores(h *host) []agent.Before {
	h.T.Helper()
	entries, err := agent.ReadJournal(h.Host)
	if err != nil {
		h.T.Fatal(err)
	}
	var all []agent.Before
	for _, e := range entries {
		if e.Before != nil {
			all = append(all, *e.Before)
		}
	}
	return all
}

func names(befores []agent.Before) string {
	var all []string
	for _, b := range befores {
		all = append(all, b.Name)
	}
	return strings.Join(all, " ")
}

func TestJournalFirstTouchWins(t *testing.T) {
	h := newHost(t)
	h.Write("/etc/app.conf", 0o640, "before muster")
	h.mustApply(step.File{Path: "/etc/app.conf", Mode: 0o644, Data: "one"})
	h.mustApply(step.File{Path: "/etc/app.conf", Mode: 0o600, Data: "two"})
	h.open()
	h.mustApply(step.File{Path: "/etc/app.conf", Mode: 0o600, Data: "three"})
	got := befores(h)
	if len(got) != 1 || !got[0].Existed || got[0].Mode != 0o640 {
		t.Fatalf("got %+v", got)
	}
	if text := h.Read("/var/lib/muster/before/" + got[0].Saved); text != "before muster" {
		t.Errorf("saved %q", text)
	}
}

func TestJournalNotesMissingParents(t *testing.T) {
	h := newHost(t)
	h.mustApply(step.File{Path: "/etc/a/b/c", Mode: 0o644}, step.File{Path: "/etc/a/d", Mode: 0o644})
	if got := names(befores(h)); got != "/etc/a /etc/a/b /etc/a/b/c /etc/a/d" {
		t.Errorf("got %s", got)
	}
}

// A folder made as a parent turns out to be the cluster's whole.
func TestJournalWholeAfterParent(t *testing.T) {
	h := newHost(t)
	before := h.Tree()
	h.mustApply(
		step.File{Path: "/var/lib/app/conf", Mode: 0o644},
		step.Directory{Path: "/var/lib/app", Mode: 0o700, Whole: true},
	)
	h.Write("/var/lib/app/made/by/the/service", 0o600, "data")
	h.reset()
	if after := h.Tree(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

func TestJournalKinds(t *testing.T) {
	h := newHost(t)
	h.Write("/proc/sys/net/ipv4/ip_forward", 0o644, "0\n")
	h.Write("/etc/systemd/system/app.service", 0o644, "[Service]\n")
	if err := os.Symlink("/old", h.Host.Path("/usr/local/bin/app")); err != nil {
		t.Fatal(err)
	}
	h.Users.Add("known")
	h.mustApply(
		step.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"},
		step.Unit{Name: "app.service"},
		step.User{Name: "etcd"},
		step.Link{Path: "/usr/local/bin/app", Target: "/new"},
		step.Directory{Path: "/var/log", Mode: 0o700},
	)
	type short struct {
		Kind    step.TouchKind
		Existed bool
		Value   string
		Target  string
		Saved   string
		Mode    fs.FileMode
	}
	var got []short
	for _, b := range befores(h) {
		got = append(got, short{b.Kind, b.Existed, b.Value, b.Target, b.Saved, b.Mode})
	}
	want := []short{
		{step.TouchSysctl, true, "0", "", "", 0},
		{step.TouchUnit, false, "", "", "", 0},
		{step.TouchPath, false, "", "", "", 0},
		{step.TouchUser, false, "", "", "", 0},
		{step.TouchPath, true, "", "/old", "", fs.ModeSymlink | 0o777},
		{step.TouchPath, true, "", "", "", fs.ModeDir | 0o755},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A user that cannot be looked up is not taken for a new one: a reset would
// remove it.
func TestJournalCannotAskForUser(t *testing.T) {
	h := newHost(t)
	h.Users.Fail = errors.New("no answer")
	if err := h.agent.Journal.Intend(t.Context(), h.Host, h.kernel, step.User{Name: "etcd"}); !errors.Is(err, h.Users.Fail) {
		t.Errorf("got %v", err)
	}
	if got := befores(h); len(got) > 0 {
		t.Errorf("noted %+v", got)
	}
}

// Two paths that read alike once flattened are kept apart.
func TestJournalKeepsFilesApart(t *testing.T) {
	h := newHost(t)
	paths := []string{"/etc/a/b_c", "/etc/a_b/c", "/etc/a_b_c", "/etc/a%2Fb_c"}
	for _, p := range paths {
		h.Write(p, 0o644, "before: "+p)
	}
	before := h.Tree()
	for _, p := range paths {
		h.mustApply(step.File{Path: p, Mode: 0o600, Data: "muster's"})
	}
	h.reset()
	if after := h.Tree(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

// A crash in the middle of a line loses that line alone, and the next line
// does not continue it.
func TestJournalCutEverywhere(t *testing.T) {
	h := newHost(t)
	h.mustApply(step.File{Path: "/etc/a", Mode: 0o644, Data: "a"}, step.File{Path: "/etc/b", Mode: 0o644, Data: "b"})
	whole := h.Read(journalFile)
	for cut := range len(whole) {
		h.Write(journalFile, 0o600, whole[:cut])
		entries, err := agent.ReadJournal(h.Host)
		if want := strings.Count(whole[:cut], "\n"); err != nil || len(entries) != want {
			t.Fatalf("cut after %d bytes: %d entries, want %d, %v", cut, len(entries), want, err)
		}
	}
	h.Write(journalFile, 0o600, whole[:len(whole)-3])
	h.open()
	h.mustApply(step.File{Path: "/etc/c", Mode: 0o644, Data: "c"})
	if got := names(befores(h)); got != "/etc/a /etc/b /etc/c" {
		t.Errorf("got %s", got)
	}
}

func TestJournalBroken(t *testing.T) {
	h := newHost(t)
	h.Write(journalFile, 0o600, "{}\nnot json\n{}\n")
	if _, err := agent.OpenJournal(h.Host); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

// Without a journal nothing is changed.
func TestJournalCannotBeWritten(t *testing.T) {
	h := newHost(t)
	h.Write("/var/lib/muster", 0o644, "") // a file where the folder should be
	events, err := h.apply(step.File{Path: "/etc/a", Mode: 0o644})
	if err == nil || h.Exists("/etc/a") || !strings.Contains(events[0].Cause, "journal: ") {
		t.Errorf("got %v, %+v", err, events)
	}
}

// Looking at a host leaves no trace of muster.
func TestNothingIsWrittenUntilAStepIs(t *testing.T) {
	h := newHost(t)
	h.Write("/etc/a", 0o644, "a")
	before := h.Tree()
	h.mustApply(step.File{Path: "/etc/a", Mode: 0o644, Data: "a"})
	if err := h.agent.Apply(t.Context(), step.List{step.File{Path: "/etc/b", Mode: 0o644}}, true, h.emit); err != nil {
		t.Fatal(err)
	}
	if after := h.Tree(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add("{}\n")
	f.Add(`{"Time":"2026-03-01T12:00:00Z","Step":"file /x","Before":{"Kind":"path","Name":"/x","Existed":true,"Mode":420}}` + "\n" + `{"Ti`)
	f.Fuzz(func(t *testing.T, text string) {
		h := newHost(t)
		h.Write(journalFile, 0o600, text)
		entries, err := agent.ReadJournal(h.Host)
		if lines := strings.Count(text, "\n"); err == nil && len(entries) != lines {
			t.Errorf("%q: %d entries of %d lines", text, len(entries), lines)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/muster-project/muster/plan/step"
)

// StateDir is muster's own folder on a host: the journal, what was there
// before, and stamps of imported images.
const StateDir = "/var/lib/muster"

// Journal records, before a step runs, what it is about to overwrite. Only the
// first overwriting of a thing is kept: that is the state from before muster,
// which a reset returns to.
type Journal struct {
	host *step.Host

	mu    sync.Mutex
	file  *os.File
	known map[thing]Before
}

// thing is what a Touch names, whatever becomes of its contents.
type thing struct {
	kind step.TouchKind
	name string
}

func thingOf(t step.Touch) thing { return thing{t.Kind, t.Name} }

// Entry is one line of the journal.
type Entry struct {
	Time   time.Time
	Step   string
	Before *Before `json:",omitempty"` // nil: the step was done
}

// Before is the former state of one thing.
type Before struct {
	step.Touch
	Existed bool
	Mode    fs.FileMode `json:",omitempty"`
	UID     int         `json:",omitempty"`
	GID     int         `json:",omitempty"`
	Target  string      `json:",omitempty"` // of a link
	Saved   string      `json:",omitempty"` // name below StateDir/before
	Value   string      `json:",omitempty"` // of a sysctl
	Enabled bool        `json:",omitempty"` // of a unit
	Active  bool        `json:",omitempty"`
}

func journalPath(h *step.Host) string { return h.Path(StateDir + "/journal.ndjson") }

// OpenJournal opens the host's journal. Nothing is written until a step is.
func OpenJournal(h *step.Host) (*Journal, error) {
	entries, err := ReadJournal(h)
	if err != nil {
		return nil, err
	}
	j := &Journal{host: h, known: make(map[thing]Before)}
	for _, e := range entries {
		if e.Before != nil {
			j.known[thingOf(e.Before.Touch)] = *e.Before
		}
	}
	return j, nil
}

// ReadJournal returns all entries, oldest first. A last line that a crash cut
// short is dropped: its step had not begun.
func ReadJournal(h *step.Host) ([]Entry, error) {
	f, err := os.Open(journalPath(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []Entry
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", journalPath(h), len(entries)+1, err)
		}
		entries = append(entries, e)
	}
}

// Intend writes down what s is about to overwrite and returns when it is on
// disk. Before the first step of all it keeps a snapshot of the host and of k.
func (j *Journal) Intend(ctx context.Context, h *step.Host, k Kernel, s step.Step) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.known) == 0 {
		if err := keepSnapshot(ctx, h, k); err != nil {
			return err
		}
	}
	wrote := false
	for _, t := range j.missingParents(s.Touches()) {
		before, err := j.news(ctx, h, t)
		if err != nil {
			return fmt.Errorf("note what %s %s was: %w", t.Kind, t.Name, err)
		}
		if before == nil {
			continue
		}
		if err := j.append(Entry{Time: h.Now(), Step: s.String(), Before: before}); err != nil {
			return err
		}
		j.known[thingOf(t)] = *before
		wrote = true
	}
	if !wrote {
		return nil
	}
	return j.file.Sync()
}

// news is what the journal does not know yet of a thing, or nil. A folder that
// was made as somebody's parent may later turn out to be the cluster's whole.
func (j *Journal) news(ctx context.Context, h *step.Host, t step.Touch) (*Before, error) {
	before, known := j.known[thingOf(t)]
	switch {
	case !known:
		return j.capture(ctx, h, t)
	case t.Whole && !before.Whole && !before.Existed:
		before.Touch = t
		return &before, nil
	}
	return nil, nil
}

// missingParents adds, before each path, the folders that will be made for it,
// so that a reset takes them away again.
func (j *Journal) missingParents(touches []step.Touch) []step.Touch {
	var all []step.Touch
	for _, t := range touches {
		if t.Kind == step.TouchPath {
			var parents []step.Touch
			for dir := filepath.Dir(t.Name); dir != "/"; dir = filepath.Dir(dir) {
				if _, err := os.Lstat(j.host.Path(dir)); err == nil {
					break
				}
				parents = append([]step.Touch{{Kind: step.TouchPath, Name: dir}}, parents...)
			}
			all = append(all, parents...)
		}
		all = append(all, t)
	}
	return all
}

// forget closes the journal, whose file is about to go; a step that follows
// begins a new one.
func (j *Journal) forget() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.known)
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// Did writes down that s was done.
func (j *Journal) Did(s step.Step) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(Entry{Time: j.host.Now(), Step: s.String()})
}

func (j *Journal) append(e Entry) error {
	if j.file == nil {
		if err := os.MkdirAll(j.host.Path(StateDir), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(journalPath(j.host), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		if err := dropCutLine(f); err != nil {
			return errors.Join(err, f.Close())
		}
		j.file = f
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// dropCutLine puts the end of the file behind its last whole line.
func dropCutLine(f *os.File) error {
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	whole := int64(strings.LastIndexByte(string(data), '\n') + 1)
	if err := f.Truncate(whole); err != nil {
		return err
	}
	_, err = f.Seek(whole, io.SeekStart)
	return err
}

func (j *Journal) capture(ctx context.Context, h *step.Host, t step.Touch) (*Before, error) {
	b := &Before{Touch: t}
	switch t.Kind {
	case step.TouchPath:
		return b, j.capturePath(b)
	case step.TouchSysctl:
		value, err := os.ReadFile(h.Path(step.SysctlPath(t.Name)))
		b.Existed, b.Value = err == nil, strings.TrimSpace(string(value))
		return b, err
	case step.TouchUnit:
		state, err := h.Units.State(ctx, t.Name)
		b.Enabled, b.Active = state.Enabled, state.Active
		return b, err
	case step.TouchUser:
		_, known, err := h.User(t.Name)
		b.Existed = known
		return b, err
	}
	return nil, fmt.Errorf("no such kind %q", t.Kind)
}

func (j *Journal) capturePath(b *Before) error {
	info, err := os.Lstat(j.host.Path(b.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	b.Existed, b.Mode, b.UID, b.GID = true, info.Mode(), int(st.Uid), int(st.Gid)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		b.Target, err = os.Readlink(j.host.Path(b.Name))
		return err
	case info.IsDir():
		return nil
	}
	return j.save(b)
}

// save keeps the old file by a second name: files are replaced by rename, so
// the old inode stays whole and nothing is copied.
func (j *Journal) save(b *Before) error {
	dir := j.host.Path(StateDir + "/before")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b.Saved = url.PathEscape(b.Name) // one name for one path: /a/b_c is not /a_b/c
	saved := filepath.Join(dir, b.Saved)
	if err := os.Remove(saved); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Link(j.host.Path(b.Name), saved)
	if errors.Is(err, syscall.EXDEV) {
		return copyFile(j.host.Path(b.Name), saved)
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Sync(), out.Close())
}

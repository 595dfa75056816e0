// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// state is what became of a spec.
type state string

// The states. One that did not run has no result at all.
const (
	passed  state = "passed"
	failed  state = "failed"
	skipped state = "skipped" // by the test itself, which saw that it cannot run here
)

// result is what became of one spec.
type result struct {
	Spec    string  `json:"spec"`
	State   state   `json:"state"`
	Reason  string  `json:"reason,omitempty"` // the test's own words
	At      string  `json:"at,omitempty"`     // file:line of the failure or skip
	Seconds float64 `json:"seconds"`

	Ended time.Time `json:"ended"`
}

// results keeps what became of specs in a file, one line each, written as soon
// as it is known. The last line about a spec counts.
type results struct {
	mu   sync.Mutex
	dir  string
	last map[string]result
}

const resultsName = "results.jsonl"

// openResults reads what earlier runs in dir found, unless it is to be fresh.
func openResults(dir string, fresh bool) (*results, error) {
	if fresh {
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("forget earlier results: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a place for results: %w", err)
	}
	r := &results{dir: dir, last: map[string]result{}}
	raw, err := os.ReadFile(filepath.Join(dir, resultsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read earlier results: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one result
		// A line that was cut is a spec that has no result.
		if json.Unmarshal(lines.Bytes(), &one) == nil {
			r.last[one.Spec] = one
		}
	}
	return r, lines.Err()
}

// add keeps a result.
func (r *results) add(one result) error {
	line, err := json.Marshal(one)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	file, err := os.OpenFile(filepath.Join(r.dir, resultsName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("keep a result: %w", err)
	}
	// A line that was cut is ended by this one's own line break.
	_, err = file.Write(append(append([]byte("\n"), line...), '\n'))
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("keep a result: %w", err)
	}
	r.last[one.Spec] = one
	return nil
}

func (r *results) of(spec string) (result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.last[spec]
	return one, ok
}

// all gives the results by the names of their specs.
func (r *results) all() map[string]result {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]result, len(r.last))
	for name, one := range r.last {
		all[name] = one
	}
	return all
}

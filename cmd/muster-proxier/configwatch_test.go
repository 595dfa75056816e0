// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	put := func(text string) {
		t.Helper()
		// As a ConfigMap is swapped: another file takes the name.
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put("old")
	var log strings.Builder
	ticks, done := make(chan time.Time), make(chan error)
	w := configWatch{path: path, now: []byte("old"), ticks: ticks, log: slog.New(slog.NewTextHandler(&log, nil)), check: func(data []byte) error {
		if strings.HasPrefix(string(data), "bad") {
			return errors.New("a fault: " + string(data))
		}
		return nil
	}}
	go func() { done <- w.run(t.Context()) }()
	tick := func() { // twice: the second one shows that the first was dealt with
		for range 2 {
			select {
			case ticks <- time.Time{}:
			case err := <-done:
				t.Fatalf("ended with %v", err)
			}
		}
	}
	tick()
	put("bad 1")
	tick()
	tick()
	put("bad 2")
	tick()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tick()
	put("old")
	tick()
	put("new")
	ticks <- time.Time{}
	if err := <-done; !errors.Is(err, errConfigChanged) {
		t.Errorf("ended with %v, want errConfigChanged", err)
	}
	for _, once := range []string{"a fault: bad 1", "a fault: bad 2"} {
		if n := strings.Count(log.String(), once); n != 1 {
			t.Errorf("%q was said %d times, want once", once, n)
		}
	}
}

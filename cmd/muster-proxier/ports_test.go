// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lines collects a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(word string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), word)
}

func TestTakenPort(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := other.Addr().String()
	if _, err := (claimer{log: slog.New(slog.DiscardHandler), hardFail: true}).claim(t.Context(), "health", addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("with bindAddressHardFail: %v, want that it is taken", err)
	}
	if _, err := (claimer{log: slog.New(slog.DiscardHandler)}).claim(t.Context(), "health", "203.0.113.1:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address of another host: %v, want no wait", err)
	}

	var log lines
	got := make(chan error)
	go func() {
		l, err := claimer{log: slog.New(slog.NewTextHandler(&log, nil))}.claim(t.Context(), "health", addr)
		if err == nil {
			err = l.Close()
		}
		got <- err
	}()
	for log.count("kube-proxy") == 0 {
		time.Sleep(time.Millisecond)
	}
	other.Close()
	if err := <-got; err != nil {
		t.Errorf("after the other one is gone: %v", err)
	}
	if n := log.count("waiting"); n != 1 {
		t.Errorf("said %d times that it waits, want once", n)
	}
}

func TestWaitForAPortEnds(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (claimer{log: slog.New(slog.DiscardHandler)}).claim(ctx, "health", other.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

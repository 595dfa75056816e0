// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fcache "k8s.io/client-go/tools/cache/testing"

	"github.com/muster-project/muster/proxier"
)

// heard is a feed of Services and what it passed on.
func heard() (*feed[*corev1.Service], func() string) {
	var words []string
	f := newFeed(
		func(s *corev1.Service) { words = append(words, "+"+s.Name+s.ResourceVersion) },
		func(n proxier.Name) { words = append(words, "-"+n.Name) })
	return f, func() string {
		defer func() { words = nil }()
		return strings.Join(words, " ")
	}
}

func versioned(name, resource string) any {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: resource}}
}

func TestFeed(t *testing.T) {
	f, words := heard()
	for _, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"a first list", func() error { return f.Replace([]any{versioned("a", "1"), versioned("b", "1")}, "1") }, "+a1 +b1"},
		{"a new one", func() error { return f.Add(versioned("c", "2")) }, "+c2"},
		{"a change", func() error { return f.Update(versioned("a", "3")) }, "+a3"},
		{"the same again", func() error { return f.Update(versioned("a", "3")) }, ""},
		{"a deletion", func() error { return f.Delete(versioned("b", "4")) }, "-b"},
		{"a list after an interruption", func() error {
			return f.Replace([]any{versioned("a", "3"), versioned("b", "5")}, "5")
		}, "+b5 -c"},
		{"all are gone", func() error { return f.Replace(nil, "6") }, "-a -b"},
		{"one without a version", func() error { return f.Add(versioned("d", "")) }, "+d"},
		{"and again", func() error { return f.Add(versioned("d", "")) }, "+d"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		got := words()
		if step.what == "all are gone" && got == "-b -a" {
			got = "-a -b"
		}
		if got != step.want {
			t.Errorf("%s: heard %q, want %q", step.what, got, step.want)
		}
	}
	select {
	case <-f.synced:
	default:
		t.Error("not synced after a list")
	}
}

func TestFeedDropsWhatIsNeverRead(t *testing.T) {
	f, _ := heard()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{}}, Annotations: map[string]string{"a": "b"}}}
	if _, err := f.Transformer()(s); err != nil || s.ManagedFields != nil || s.Annotations["a"] != "b" {
		t.Errorf("%+v, %v", s.ObjectMeta, err)
	}
}

// reluctant is a kind whose lists end in an error until it is nil.
type reluctant struct {
	source
	mu  sync.Mutex
	err error
}

func (r *reluctant) List(o metav1.ListOptions) (runtime.Object, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return r.source.List(o)
}

func (r *reluctant) answer(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// TestKindThatIsNotServed: an API server without ServiceCIDRs is complete too.
func TestKindThatIsNotServed(t *testing.T) {
	resource := networkingv1.Resource("servicecidrs")
	gone, forbidden := apierrors.NewNotFound(resource, ""), apierrors.NewForbidden(resource, "", nil)
	for _, c := range []struct {
		what   string
		err    error
		others bool // are there
		synced bool
	}{
		{"it has none", gone, false, true},
		{"nobody may see anything yet", forbidden, false, false},
		{"only this kind is refused", forbidden, true, true},
		{"it cannot be reached", errors.New("connection refused"), true, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from := &reluctant{source: source{fcache.NewFakeControllerSource()}, err: c.err}
				from.Add(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}})
				told := ""
				f := newFeed(func(o *networkingv1.ServiceCIDR) { told += o.Name }, func(proxier.Name) {})
				others := make(chan struct{})
				if c.others {
					close(others)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var work sync.WaitGroup
				work.Go(func() { f.runIfServed(ctx, from, &networkingv1.ServiceCIDR{}, others) })
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if closed(f.synced) != c.synced || told != "" {
					t.Errorf("synced %t, told %q, want %t and nothing", closed(f.synced), told, c.synced)
				}
				from.answer(nil)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if !closed(f.synced) || told != "kubernetes" {
					t.Errorf("after an upgrade: synced %t, told %q", closed(f.synced), told)
				}
				cancel()
				work.Wait()
				from.Shutdown()
			})
		})
	}
}

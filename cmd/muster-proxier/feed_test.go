// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// TestKindThatIsNotServed: an API server without ServiceCIDRs is complete too.
func TestKindThatIsNotServed(t *testing.T) {
	c := newCluster()
	c.cidrs.ListError = apierrors.NewNotFound(networkingv1.Resource("servicecidrs"), "")
	f := newFeed(func(*networkingv1.ServiceCIDR) {}, func(proxier.Name) {})
	f.runIfServed(t.Context(), c.cidrs, &networkingv1.ServiceCIDR{}) // returns
	<-f.synced

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.cidrs.ListError = fmt.Errorf("connection refused")
	f = newFeed(func(*networkingv1.ServiceCIDR) {}, func(proxier.Name) {})
	f.runIfServed(ctx, c.cidrs, &networkingv1.ServiceCIDR{})
	select {
	case <-f.synced:
		t.Error("a server that cannot be reached counts as one without the kind")
	default:
	}
}

// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

// busyAPI has somebody write an object right after each of the first reads.
type busyAPI struct {
	*steptest.API
	path   string
	writes int
}

func (b *busyAPI) Call(ctx context.Context, as step.Credentials, c step.Call) ([]byte, error) {
	answer, err := b.API.Call(ctx, as, c)
	if c.Method == http.MethodGet && b.writes > 0 {
		b.writes--
		b.Set(b.path, b.writes, "spec", "unrelated")
	}
	return answer, err
}

// An object that others write between question and comparison is right all the
// same; one that never holds still cannot be asked.
func TestObjectOthersWrite(t *testing.T) {
	for _, c := range []struct {
		writes int
		right  bool
	}{{0, true}, {3, true}, {100, false}} {
		w := steptest.New(t)
		o := step.Object{Path: "/api/v1/nodes", Name: "w-1", YAML: "apiVersion: v1\nkind: Node\nmetadata: {name: w-1, labels: {a: b}}\nspec: {}\n"}
		if err := o.Do(t.Context(), w.Host); err != nil {
			t.Fatal(err)
		}
		w.Host.API = &busyAPI{w.API, "/api/v1/nodes/w-1", c.writes}
		done, err := o.Done(t.Context(), w.Host)
		if done != c.right || (err == nil) != c.right {
			t.Errorf("%d writes: got %t, %v", c.writes, done, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package step

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
)

// FieldManager is the name under which muster owns fields of API objects
// (server-side apply, KEP-555).
const FieldManager = "muster"

// StatusError is an answer of the API server that is not a success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("API server: %d: %s", e.Code, e.Message) }

// IsNotFound reports whether the API server said 404.
func IsNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// isConflict reports whether somebody else changed an object in between.
func isConflict(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusConflict
}

// Object is an API object applied server-side. Path is the collection it lives
// in, such as /api/v1/namespaces/kube-system/services.
type Object struct {
	As   Credentials
	Path string
	Name string
	YAML string // one document
	// Manager owns the fields; empty is FieldManager. Objects that several
	// steps each hold a part of need one each.
	Manager string
}

func (o Object) String() string { return fmt.Sprintf("object %s/%s", o.Path, o.Name) }

// Touches nothing on the host.
func (o Object) Touches() []Touch { return nil }

func (o Object) url(query string) string {
	return fmt.Sprintf("%s/%s%s", o.Path, url.PathEscape(o.Name), query)
}

// Done compares the object with what a dry-run apply would make of it, so
// that defaults, other owners' fields and conversions never look like drift.
func (o Object) Done(ctx context.Context, h *Host) (bool, error) {
	for range objectTries {
		have, err := h.API.Call(ctx, o.As, Call{Method: http.MethodGet, Path: o.url("")})
		if IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		want, err := o.apply(ctx, h, "&dryRun=All")
		if err != nil {
			return false, err
		}
		same, err := sameObject(have, want)
		if err != nil || same {
			return same, err
		}
		// A dry run keeps the version of what it was made from: another one
		// says that somebody wrote in between, as kubelets do all the time.
		if version(have) == version(want) {
			return false, nil
		}
	}
	return false, fmt.Errorf("%s: others write it faster than it can be compared", o)
}

// objectTries is how often an object that others write is compared anew.
const objectTries = 10

// version is the object's resourceVersion, "" if it has none.
func version(object []byte) string {
	var o struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return ""
	}
	return o.Metadata.ResourceVersion
}

// Do applies the object.
func (o Object) Do(ctx context.Context, h *Host) error {
	_, err := o.apply(ctx, h, "")
	return err
}

func (o Object) apply(ctx context.Context, h *Host, query string) ([]byte, error) {
	return h.API.Call(ctx, o.As, Call{
		Method:      http.MethodPatch,
		Path:        o.url("?fieldManager=" + cmp.Or(o.Manager, FieldManager) + "&force=true" + query),
		ContentType: "application/apply-patch+yaml",
		Body:        []byte(o.YAML),
	})
}

// sameObject compares two JSON objects without what every write changes.
func sameObject(a, b []byte) (bool, error) {
	x, err := withoutHistory(a)
	if err != nil {
		return false, err
	}
	y, err := withoutHistory(b)
	return err == nil && reflect.DeepEqual(x, y), err
}

// withoutHistory drops what the API server changes by itself.
func withoutHistory(object []byte) (map[string]json.RawMessage, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(object, &top); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	var meta map[string]json.RawMessage
	if err := json.Unmarshal(top["metadata"], &meta); err != nil {
		return nil, fmt.Errorf("decode metadata: %w", err)
	}
	for _, changing := range []string{"managedFields", "resourceVersion", "generation"} {
		delete(meta, changing)
	}
	delete(top, "status")
	var err error
	top["metadata"], err = json.Marshal(meta)
	return top, err
}

// node is the part of a Node that steps read.
type node struct {
	Spec struct {
		PodCIDR string
	}
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
	}
}

func getNode(ctx context.Context, h *Host, as Credentials, name string) (node, error) {
	var n node
	body, err := h.API.Call(ctx, as, Call{Method: http.MethodGet, Path: "/api/v1/nodes/" + name})
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(body, &n)
}

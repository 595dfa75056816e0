// SPDX-License-Identifier: Apache-2.0

package steptest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/plan/step"
)

// API is an API server in memory: it gets, creates and applies objects. Of
// server-side apply it has what matters here: owners of fields, fields that
// leave with their last owner, dry runs, defaults, and a resource version that
// moves only when something changed.
type API struct {
	// Fail, if set, is the answer to every call.
	Fail error
	// Writes counts the calls that changed something.
	Writes int

	t       testing.TB
	mu      sync.Mutex
	bodies  map[string][]byte // what Put put
	objects map[string]*object
	version int
}

// object is one API object and who owns which of its fields.
type object struct {
	fields  map[string]any
	owners  map[string][]string // manager to dotted fields
	version int
}

func newAPI(t testing.TB) *API {
	return &API{t: t, bodies: map[string][]byte{}, objects: map[string]*object{}}
}

// Put makes a path answer with a body.
func (a *API) Put(path, body string) { a.bodies[path] = []byte(body) }

// Object returns the fields of an object, or nil.
func (a *API) Object(path string) map[string]any {
	if o := a.objects[path]; o != nil {
		return o.fields
	}
	return nil
}

// Set changes a field by hand, as somebody else would.
func (a *API) Set(path string, value any, field ...string) {
	setField(a.objects[path].fields, field, value)
	a.bump(a.objects[path])
}

// Call does one request; see step.API.
func (a *API) Call(_ context.Context, _ step.Credentials, c step.Call) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Fail != nil {
		return nil, a.Fail
	}
	target, err := url.Parse(c.Path)
	if err != nil {
		return nil, err
	}
	switch c.Method {
	case http.MethodGet:
		return a.get(target.Path)
	case http.MethodPost:
		return a.create(target.Path, c)
	case http.MethodPatch:
		if c.ContentType == "application/apply-patch+yaml" {
			return a.apply(target, c.Body)
		}
		if c.ContentType == "application/merge-patch+json" {
			return a.merge(target.Path, c.Body)
		}
	}
	a.t.Errorf("the API does not know %s %s (%s)", c.Method, c.Path, c.ContentType)
	return nil, &step.StatusError{Code: http.StatusMethodNotAllowed, Message: c.Method}
}

func (a *API) get(path string) ([]byte, error) {
	if body, ok := a.bodies[path]; ok {
		return body, nil
	}
	if o, ok := a.objects[path]; ok {
		return o.json()
	}
	return nil, &step.StatusError{Code: http.StatusNotFound, Message: path + " not found"}
}

func (a *API) create(path string, c step.Call) ([]byte, error) {
	var fields map[string]any
	if err := json.Unmarshal(c.Body, &fields); err != nil {
		return nil, &step.StatusError{Code: http.StatusBadRequest, Message: err.Error()}
	}
	meta, _ := fields["metadata"].(map[string]any)
	path = fmt.Sprintf("%s/%v", path, meta["name"])
	if _, taken := a.objects[path]; taken {
		return nil, &step.StatusError{Code: http.StatusConflict, Message: path + " already exists"}
	}
	o := &object{fields: fields, owners: map[string][]string{}}
	a.objects[path] = o
	a.bump(o)
	return o.json()
}

// merge does a JSON merge patch (RFC 7386) and honours resourceVersion.
func (a *API) merge(path string, body []byte) ([]byte, error) {
	o := a.objects[path]
	if o == nil {
		return nil, &step.StatusError{Code: http.StatusNotFound, Message: path + " not found"}
	}
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		return nil, &step.StatusError{Code: http.StatusBadRequest, Message: err.Error()}
	}
	meta, _ := patch["metadata"].(map[string]any)
	if v, ok := meta["resourceVersion"]; ok {
		if fmt.Sprint(v) != fmt.Sprint(o.version) {
			return nil, &step.StatusError{Code: http.StatusConflict, Message: path + " was changed in between"}
		}
		delete(meta, "resourceVersion")
	}
	o.fields = mergePatch(o.fields, patch)
	a.bump(o)
	return o.json()
}

func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(target, k)
		case map[string]any:
			inner, _ := target[k].(map[string]any)
			target[k] = mergePatch(inner, v)
		default:
			target[k] = v
		}
	}
	return target
}

func (a *API) apply(target *url.URL, body []byte) ([]byte, error) {
	query := target.Query()
	manager := query.Get("fieldManager")
	if manager == "" || query.Get("force") != "true" {
		return nil, &step.StatusError{Code: http.StatusBadRequest, Message: "apply needs a manager and force"}
	}
	var wanted map[string]any
	if err := yaml.Unmarshal(body, &wanted); err != nil {
		return nil, &step.StatusError{Code: http.StatusBadRequest, Message: err.Error()}
	}
	old := a.objects[target.Path]
	next := old.clone()
	next.take(manager, wanted)
	changed := old == nil || !reflect.DeepEqual(old.fields, next.fields)
	if query.Get("dryRun") != "All" && changed {
		a.objects[target.Path] = next
		a.bump(next)
	}
	return next.json()
}

func (a *API) bump(o *object) {
	a.version++
	a.Writes++
	o.version = a.version
}

// clone copies an object; nil is cloned into a new one with defaults.
func (o *object) clone() *object {
	if o == nil {
		return &object{owners: map[string][]string{}, fields: map[string]any{
			"metadata": map[string]any{"uid": "0cd1", "creationTimestamp": "2026-03-01T12:00:00Z"},
		}}
	}
	text, err := json.Marshal(o.fields)
	if err != nil {
		panic(err) // it came from JSON
	}
	c := &object{owners: map[string][]string{}, version: o.version}
	if err := json.Unmarshal(text, &c.fields); err != nil {
		panic(err)
	}
	for manager, fields := range o.owners {
		c.owners[manager] = slices.Clone(fields)
	}
	return c
}

// take makes manager the owner of exactly the wanted fields.
func (o *object) take(manager string, wanted map[string]any) {
	now := map[string]any{}
	leaves(wanted, nil, func(path []string, value any) { now[strings.Join(path, "\x00")] = value })
	before := o.owners[manager]
	delete(o.owners, manager)
	for _, field := range before {
		if _, still := now[field]; !still && !o.owned(field) {
			deleteField(o.fields, strings.Split(field, "\x00"))
		}
	}
	for field, value := range now {
		setField(o.fields, strings.Split(field, "\x00"), value)
		o.owners[manager] = append(o.owners[manager], field)
	}
}

func (o *object) owned(field string) bool {
	for _, fields := range o.owners {
		if slices.Contains(fields, field) {
			return true
		}
	}
	return false
}

// json is the object as the server sends it, with what every write changes.
func (o *object) json() ([]byte, error) {
	c := o.clone()
	setField(c.fields, []string{"metadata", "resourceVersion"}, fmt.Sprint(o.version))
	setField(c.fields, []string{"metadata", "managedFields"}, []any{fmt.Sprint("as of ", o.version)})
	return json.Marshal(c.fields)
}

func leaves(fields map[string]any, path []string, each func([]string, any)) {
	for name, value := range fields {
		at := append(slices.Clone(path), name)
		if deeper, ok := value.(map[string]any); ok {
			leaves(deeper, at, each)
			continue
		}
		each(at, value)
	}
}

func setField(fields map[string]any, path []string, value any) {
	for _, name := range path[:len(path)-1] {
		deeper, ok := fields[name].(map[string]any)
		if !ok {
			deeper = map[string]any{}
			fields[name] = deeper
		}
		fields = deeper
	}
	fields[path[len(path)-1]] = value
}

func deleteField(fields map[string]any, path []string) {
	for _, name := range path[:len(path)-1] {
		deeper, ok := fields[name].(map[string]any)
		if !ok {
			return
		}
		fields = deeper
	}
	delete(fields, path[len(path)-1])
}

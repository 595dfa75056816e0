// SPDX-License-Identifier: Apache-2.0

package step

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// kinds is the closed set. A new kind is added here, gets its Done, Do and
// Touches, and passes the common tests in step_test.go.
var kinds = map[string]reflect.Type{
	"absent":      reflect.TypeFor[Absent](),
	"answers":     reflect.TypeFor[Answers](),
	"authority":   reflect.TypeFor[Authority](),
	"bootstrap":   reflect.TypeFor[Bootstrap](),
	"certificate": reflect.TypeFor[Certificate](),
	"directory":   reflect.TypeFor[Directory](),
	"file":        reflect.TypeFor[File](),
	"healthy":     reflect.TypeFor[Healthy](),
	"identity":    reflect.TypeFor[Identity](),
	"image":       reflect.TypeFor[Image](),
	"install":     reflect.TypeFor[Install](),
	"link":        reflect.TypeFor[Link](),
	"module":      reflect.TypeFor[Module](),
	"node-ready":  reflect.TypeFor[NodeReady](),
	"object":      reflect.TypeFor[Object](),
	"ready":       reflect.TypeFor[Ready](),
	"resolves":    reflect.TypeFor[Resolves](),
	"rollout":     reflect.TypeFor[Rollout](),
	"signing-key": reflect.TypeFor[SigningKey](),
	"sysctl":      reflect.TypeFor[Sysctl](),
	"taints":      reflect.TypeFor[Taints](),
	"trust":       reflect.TypeFor[Trust](),
	"unit":        reflect.TypeFor[Unit](),
	"user":        reflect.TypeFor[User](),
}

// List is steps in order; it travels as JSON with each step's kind beside it.
type List []Step

type tagged struct {
	Kind string          `json:"kind"`
	Step json.RawMessage `json:"step"`
}

// MarshalJSON writes [{"kind": …, "step": …}].
func (l List) MarshalJSON() ([]byte, error) {
	out := make([]tagged, len(l))
	for i, s := range l {
		kind, err := KindOf(s)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", s, err)
		}
		out[i] = tagged{kind, body}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses unknown kinds.
func (l *List) UnmarshalJSON(data []byte) error {
	var in []tagged
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	out := make(List, len(in))
	for i, t := range in {
		typ, ok := kinds[t.Kind]
		if !ok {
			return fmt.Errorf("step %d: no such kind %q: muster and muster-node differ in version", i, t.Kind)
		}
		v := reflect.New(typ)
		if err := json.Unmarshal(t.Step, v.Interface()); err != nil {
			return fmt.Errorf("step %d (%s): %w", i, t.Kind, err)
		}
		out[i] = v.Elem().Interface().(Step)
	}
	*l = out
	return nil
}

// KindOf returns the name under which a step travels.
func KindOf(s Step) (string, error) {
	for name, typ := range kinds {
		if reflect.TypeOf(s) == typ {
			return name, nil
		}
	}
	return "", fmt.Errorf("%T is not one of the known kinds of step", s)
}

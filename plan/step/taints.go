// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Taints keeps the taints that the inventory gives a node. A node's taints
// are one list that controllers write to as well, so muster notes its own in
// an annotation and leaves the others alone.
type Taints struct {
	As     Credentials
	Node   string
	Taints []Taint
}

// Taint is a taint of a node, as the API has it.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// taintsNote is the annotation with the taints that muster gave.
const taintsNote = "muster/taints"

func (t Taints) String() string {
	var texts []string
	for _, one := range t.Taints {
		texts = append(texts, fmt.Sprintf("%s=%s:%s", one.Key, one.Value, one.Effect))
	}
	if len(texts) == 0 {
		return fmt.Sprintf("taints of node %s: none", t.Node)
	}
	return fmt.Sprintf("taints of node %s: %s", t.Node, strings.Join(texts, ", "))
}

// Touches nothing on the host.
func (t Taints) Touches() []Touch { return nil }

// taintedNode is the part of a Node that the step works on.
type taintedNode struct {
	Metadata struct {
		ResourceVersion string
		Annotations     map[string]string
	}
	Spec struct{ Taints []json.RawMessage }
}

// Done holds when the node has the taints, and none that muster once gave it
// and the file no longer has.
func (t Taints) Done(ctx context.Context, h *Host) (bool, error) {
	node, err := t.get(ctx, h)
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	wanted, changed, err := t.merge(node)
	return !changed && len(wanted) == len(node.Spec.Taints), err
}

func (t Taints) get(ctx context.Context, h *Host) (taintedNode, error) {
	var node taintedNode
	body, err := h.API.Call(ctx, t.As, Call{Method: http.MethodGet, Path: "/api/v1/nodes/" + t.Node})
	if err != nil {
		return node, err
	}
	return node, json.Unmarshal(body, &node)
}

// merge returns the list that the node should have: others' taints as they
// are, with all their fields, and muster's. changed says that it differs from
// the one it has, or that the note does.
func (t Taints) merge(node taintedNode) (list []json.RawMessage, changed bool, err error) {
	var noted []Taint
	if text := node.Metadata.Annotations[taintsNote]; text != "" {
		if err := json.Unmarshal([]byte(text), &noted); err != nil {
			return nil, false, fmt.Errorf("annotation %s of node %s: %w", taintsNote, t.Node, err)
		}
	}
	var have []Taint
	for _, raw := range node.Spec.Taints {
		var one Taint
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, false, fmt.Errorf("taints of node %s: %w", t.Node, err)
		}
		if slices.Contains(noted, one) && !slices.Contains(t.Taints, one) {
			changed = true
			continue
		}
		have = append(have, one)
		list = append(list, raw)
	}
	for _, one := range t.Taints {
		if slices.Contains(have, one) {
			continue
		}
		raw, err := json.Marshal(one)
		if err != nil {
			return nil, false, err
		}
		list, changed = append(list, raw), true
	}
	return list, changed || !slices.Equal(noted, t.Taints), nil
}

// busyNode is how often others may write a node between reading and writing
// it. A node that has just registered is written by its kubelet and three
// controllers within a second.
const busyNode = 20

// Do writes list and note, on the condition that nobody else wrote the node
// in between; if somebody did, it reads again.
func (t Taints) Do(ctx context.Context, h *Host) error {
	var err error
	for range busyNode {
		if err = t.write(ctx, h); !isConflict(err) {
			return err
		}
	}
	return err
}

func (t Taints) write(ctx context.Context, h *Host) error {
	node, err := t.get(ctx, h)
	if err != nil {
		return err
	}
	list, _, err := t.merge(node)
	if err != nil {
		return err
	}
	note, err := json.Marshal(t.Taints)
	if err != nil {
		return err
	}
	type metadata struct {
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	}
	type spec struct {
		Taints []json.RawMessage `json:"taints"`
	}
	patch, err := json.Marshal(struct {
		Metadata metadata `json:"metadata"`
		Spec     spec     `json:"spec"`
	}{metadata{node.Metadata.ResourceVersion, map[string]string{taintsNote: string(note)}}, spec{list}})
	if err != nil {
		return err
	}
	_, err = h.API.Call(ctx, t.As, Call{
		Method: http.MethodPatch, Path: "/api/v1/nodes/" + t.Node, ContentType: "application/merge-patch+json", Body: patch,
	})
	return err
}

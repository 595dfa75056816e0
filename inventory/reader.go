// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/muster-project/muster/internal/nearest"
)

// value is a YAML node together with its path in the file.
type value struct {
	path string
	node *yaml.Node
}

// reader walks the file's nodes. It keeps every fault, and the line of every
// path it has seen, so that later checks can point into the file.
type reader struct {
	faults Faults
	lines  map[string]int
}

// fault notes a fault at the line of the path, or of the nearest path above it
// that the file has.
func (r *reader) fault(path, hint, problem string, args ...any) {
	r.faults = append(r.faults, Fault{Path: path, Line: r.line(path), Problem: fmt.Sprintf(problem, args...), Hint: hint})
}

func (r *reader) line(path string) int {
	for path != "" {
		if n, ok := r.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return r.lines[""]
}

// given reports whether the file has something at the path, right or wrong.
func (r *reader) given(path string) bool {
	_, ok := r.lines[path]
	return ok
}

// follow replaces an alias by what it stands for. An alias of an alias cannot
// be written in YAML.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// mapping reads a mapping: each key by its function, any other key is a fault.
func (r *reader) mapping(v value, read map[string]func(value)) {
	n := follow(v.node)
	if n.Kind != yaml.MappingNode {
		r.fault(v.path, "known keys: "+keys(read), "%s where keys and values belong", describe(n))
		return
	}
	r.pairs(v, func(key string, at *yaml.Node, item value) {
		f, ok := read[key]
		if !ok {
			r.unknownKey(v.path, key, at.Line, read)
			return
		}
		f(item)
	})
}

// pairs calls f for each key and value of a mapping, and reports keys given twice.
func (r *reader) pairs(v value, f func(key string, at *yaml.Node, item value)) {
	content := follow(v.node).Content
	seen := map[string]int{}
	for i := 0; i+1 < len(content); i += 2 {
		k := follow(content[i])
		if k.Kind != yaml.ScalarNode {
			r.faults = append(r.faults, Fault{Path: v.path, Line: content[i].Line, Problem: describe(k) + " where a key belongs"})
			continue
		}
		if line, again := seen[k.Value]; again {
			r.faults = append(r.faults, Fault{Path: v.path, Line: content[i].Line,
				Problem: fmt.Sprintf("key %q is given twice", k.Value), Hint: fmt.Sprintf("the first one is on line %d", line)})
			continue
		}
		seen[k.Value] = content[i].Line
		path := child(v.path, k.Value)
		r.lines[path] = content[i].Line
		f(k.Value, content[i], value{path, content[i+1]})
	}
}

func (r *reader) unknownKey(path, key string, line int, read map[string]func(value)) {
	known := slices.Sorted(maps.Keys(read))
	hint := "known keys: " + strings.Join(known, ", ")
	if key == "<<" {
		hint = "merge keys are not read: write the keys out"
	} else if near := nearest.One(key, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	r.faults = append(r.faults, Fault{Path: path, Line: line, Problem: fmt.Sprintf("unknown key %q", key), Hint: hint})
}

// list reads a sequence, item by item. An empty value is an empty list.
func (r *reader) list(v value, read func(value)) {
	n := follow(v.node)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.fault(v.path, "write it as [a, b]", "%s where a list belongs", describe(n))
		return
	}
	for i, item := range n.Content {
		path := fmt.Sprintf("%s[%d]", v.path, i)
		r.lines[path] = item.Line
		read(value{path, item})
	}
}

// text reads a scalar as it is written, so that 1.36 stays "1.36".
func (r *reader) text(v value) string {
	n := follow(v.node)
	if n.Kind != yaml.ScalarNode {
		r.fault(v.path, "", "%s where one value belongs", describe(n))
		return ""
	}
	if isNull(n) || n.Value == "" {
		r.fault(v.path, "remove the key or give it a value", "empty")
		return ""
	}
	return n.Value
}

func (r *reader) boolean(v value) (b, ok bool) {
	s := r.text(v)
	if s == "" {
		return false, false
	}
	if s != "true" && s != "false" {
		r.fault(v.path, "", "%q is neither true nor false", s)
		return false, false
	}
	return s == "true", true
}

func (r *reader) port(v value) int {
	s := r.text(v)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65535 {
		r.fault(v.path, "a port is a number from 1 to 65535", "%q is not a port", s)
		return 0
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return fmt.Sprintf("the value %q", n.Value)
}

// child is the path of a key. Keys with dots or slashes, as labels have, are quoted.
func child(path, key string) string {
	if strings.ContainsFunc(key, func(c rune) bool { return !isWord(c) }) || key == "" {
		return fmt.Sprintf("%s[%q]", path, key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func isWord(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func keys(read map[string]func(value)) string {
	return strings.Join(slices.Sorted(maps.Keys(read)), ", ")
}

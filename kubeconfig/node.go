// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import "go.yaml.in/yaml/v3"

// pairs are keys and values in order.
type pairs [][2]string

// value returns the value of a key of a mapping, nil if there is none.
func value(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// text returns the text of a key of a mapping, "" if there is none.
func text(m *yaml.Node, key string) string {
	if v := value(m, key); !isNull(v) {
		return v.Value
	}
	return ""
}

// isNull reports whether there is no node or a null.
func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// set gives a key of a mapping a text value. One that is right already keeps
// its style, and any its comments.
func set(m *yaml.Node, key, text string) {
	v := value(m, key)
	if v == nil {
		m.Content = append(m.Content, scalar(key), scalar(text))
		return
	}
	if v.Kind == yaml.ScalarNode && v.ShortTag() == "!!str" && v.Value == text {
		return
	}
	n := scalar(text)
	n.HeadComment, n.LineComment, n.FootComment = v.HeadComment, v.LineComment, v.FootComment
	*v = *n
}

// scalar is a text, quoted where kubectl's reader or another one would take it
// for something else, as a cluster called 123 or no.
func scalar(text string) *yaml.Node {
	n := &yaml.Node{}
	if err := n.Encode(text); err != nil {
		panic(err) // a string always encodes
	}
	return n
}

// find returns the body of the named element of a list.
func find(list *yaml.Node, name, body string) *yaml.Node {
	return value(named(list, name), body)
}

// named returns the element of a list with the name.
func named(list *yaml.Node, name string) *yaml.Node {
	if list == nil {
		return nil
	}
	for _, element := range list.Content {
		if text(element, "name") == name {
			return element
		}
	}
	return nil
}

// put sets keys of the named element of a list; list, element and body are
// made if they are missing or null. Other keys stay.
func put(root *yaml.Node, listKey, body, name string, fields pairs) {
	list := child(root, listKey, yaml.SequenceNode)
	element := named(list, name)
	if element == nil {
		element = &yaml.Node{Kind: yaml.MappingNode}
		set(element, "name", name)
		list.Content = append(list.Content, element)
	}
	m := child(element, body, yaml.MappingNode)
	for _, f := range fields {
		set(m, f[0], f[1])
	}
}

// child returns the value of a key, made if it is missing or null. One that
// was empty is written as a block, as everything else.
func child(m *yaml.Node, key string, kind yaml.Kind) *yaml.Node {
	v := value(m, key)
	if v == nil {
		v = &yaml.Node{Kind: kind}
		m.Content = append(m.Content, scalar(key), v)
	}
	if isNull(v) {
		*v = yaml.Node{Kind: kind, HeadComment: v.HeadComment, LineComment: v.LineComment, FootComment: v.FootComment}
	}
	if len(v.Content) == 0 {
		v.Style = 0
	}
	return v
}

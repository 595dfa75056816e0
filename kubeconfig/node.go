// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import "gopkg.in/yaml.v3"

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

// set gives a key of a mapping a text value.
func set(m *yaml.Node, key, text string) {
	if v := value(m, key); v != nil {
		*v = yaml.Node{Kind: yaml.ScalarNode, Value: text, LineComment: v.LineComment}
		return
	}
	m.Content = append(m.Content, scalar(key), scalar(text))
}

func scalar(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// section returns a list of the document, made if it is missing or null.
func section(doc *yaml.Node, key string) *yaml.Node {
	list := value(doc, key)
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode}
		doc.Content = append(doc.Content, scalar(key), list)
	}
	if list.Kind != yaml.SequenceNode {
		*list = yaml.Node{Kind: yaml.SequenceNode}
	}
	return list
}

// find returns the body of the named element of a list.
func find(list *yaml.Node, name, body string) *yaml.Node {
	for _, element := range list.Content {
		if n := value(element, "name"); n != nil && n.Value == name {
			return value(element, body)
		}
	}
	return nil
}

// put sets keys of the named element of a list, made if it is missing. Other
// keys of it stay.
func put(doc *yaml.Node, listKey, body, name string, fields pairs) {
	list := section(doc, listKey)
	m := find(list, name, body)
	if m == nil || m.Kind != yaml.MappingNode {
		m = &yaml.Node{Kind: yaml.MappingNode}
		element := &yaml.Node{Kind: yaml.MappingNode}
		set(element, "name", name)
		element.Content = append(element.Content, scalar(body), m)
		list.Content = append(list.Content, element)
	}
	for _, f := range fields {
		set(m, f[0], f[1])
	}
}

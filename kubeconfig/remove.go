// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"errors"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Remove takes away what Merge once added for the cluster with this CA: each
// cluster that has it, with the user and the context of the same name. It
// returns the names, none if the file has no such cluster; then the file is
// not written.
func Remove(path string, ca []byte) (names []string, err error) {
	unlock, err := lock(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	f, err := read(path)
	if err != nil {
		return nil, err
	}
	if names = f.remove(ca); len(names) == 0 {
		return nil, nil
	}
	data, err := f.encode()
	if err != nil {
		return nil, err
	}
	return names, write(path, data)
}

func (f *file) remove(ca []byte) []string {
	var names []string
	clusters := value(f.root, "clusters")
	if clusters == nil {
		return nil
	}
	for _, element := range clusters.Content {
		if bytes.Equal(decode(value(element, "cluster"), "certificate-authority-data"), ca) {
			names = append(names, text(element, "name"))
		}
	}
	for _, name := range names {
		for _, list := range []string{"clusters", "users", "contexts"} {
			drop(value(f.root, list), name)
		}
		if text(f.root, "current-context") == name {
			set(f.root, "current-context", "")
		}
	}
	return names
}

func drop(list *yaml.Node, name string) {
	if list == nil {
		return
	}
	list.Content = slices.DeleteFunc(list.Content, func(n *yaml.Node) bool { return text(n, "name") == name })
}

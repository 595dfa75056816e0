// SPDX-License-Identifier: Apache-2.0

// Package kubeconfig adds a cluster to a person's kubeconfig file without
// touching anything else in it: other entries, their order, unknown keys and
// comments stay.
package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// Entry is one cluster with one user and one context, all called Name.
type Entry struct {
	Name   string
	Server string // https://host:port
	CA     []byte // PEM
	Cert   []byte // PEM
	Key    []byte // PEM
}

// TakenError says that the name belongs to another cluster.
type TakenError struct{ Path, Name, Server string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s: the name %s belongs to another cluster already (%s): choose one with --context, or remove that entry",
		e.Path, e.Name, e.Server)
}

// Existing returns the certificate and key that the file has under the name,
// if its cluster has this CA; nil without an error if there is none.
func Existing(path, name string, ca []byte) (cert, key []byte, err error) {
	doc, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	if err := check(path, doc, Entry{Name: name, CA: ca}); err != nil {
		return nil, nil, err
	}
	user := find(section(doc, "users"), name, "user")
	return decode(user, "client-certificate-data"), decode(user, "client-key-data"), nil
}

// Merge adds or renews the entry and returns whether the file changed. It is
// made the current context if there is none, or if use says so. The file is
// replaced whole, mode 0600; a name that belongs to another cluster is a
// *TakenError and changes nothing.
func Merge(path string, e Entry, use bool) (bool, error) {
	doc, err := read(path)
	if err != nil {
		return false, err
	}
	if err := check(path, doc, e); err != nil {
		return false, err
	}
	before, err := yaml.Marshal(doc)
	if err != nil {
		return false, err
	}
	put(doc, "clusters", "cluster", e.Name, pairs{
		{"server", e.Server}, {"certificate-authority-data", encode(e.CA)},
	})
	put(doc, "users", "user", e.Name, pairs{
		{"client-certificate-data", encode(e.Cert)}, {"client-key-data", encode(e.Key)},
	})
	put(doc, "contexts", "context", e.Name, pairs{{"cluster", e.Name}, {"user", e.Name}})
	if current := value(doc, "current-context"); use || current == nil || current.Value == "" {
		set(doc, "current-context", e.Name)
	}
	after, err := yaml.Marshal(doc)
	if err != nil || bytes.Equal(before, after) {
		return false, err
	}
	return true, write(path, after)
}

// Render returns a file with the entry alone.
func Render(e Entry) ([]byte, error) {
	doc := empty()
	put(doc, "clusters", "cluster", e.Name, pairs{{"server", e.Server}, {"certificate-authority-data", encode(e.CA)}})
	put(doc, "users", "user", e.Name, pairs{
		{"client-certificate-data", encode(e.Cert)}, {"client-key-data", encode(e.Key)},
	})
	put(doc, "contexts", "context", e.Name, pairs{{"cluster", e.Name}, {"user", e.Name}})
	set(doc, "current-context", e.Name)
	return yaml.Marshal(doc)
}

// Path is where kubectl would write: the first file of $KUBECONFIG, or the
// usual one.
func Path(env, home string) string {
	for _, p := range filepath.SplitList(env) {
		if p != "" {
			return p
		}
	}
	return filepath.Join(home, ".kube", "config")
}

// check refuses a name whose cluster entry has another CA.
func check(path string, doc *yaml.Node, e Entry) error {
	cluster := find(section(doc, "clusters"), e.Name, "cluster")
	if cluster == nil {
		return nil
	}
	if bytes.Equal(decode(cluster, "certificate-authority-data"), e.CA) {
		return nil
	}
	server := ""
	if s := value(cluster, "server"); s != nil {
		server = s.Value
	}
	return &TakenError{path, e.Name, server}
}

func read(path string) (*yaml.Node, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(bytes.TrimSpace(data)) == 0) {
		return empty(), nil
	}
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w; it was left as it is", path, err)
	}
	if doc.Kind != yaml.DocumentNode || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: not a kubeconfig file; it was left as it is", path)
	}
	return doc.Content[0], nil
}

func empty() *yaml.Node {
	doc := &yaml.Node{Kind: yaml.MappingNode}
	set(doc, "apiVersion", "v1")
	set(doc, "kind", "Config")
	return doc
}

// write replaces the file, or the file that a link leads to.
func write(path string, data []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*") // 0600 by itself
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func encode(pem []byte) string { return base64.StdEncoding.EncodeToString(pem) }

func decode(m *yaml.Node, key string) []byte {
	v := value(m, key)
	if v == nil {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(v.Value)
	if err != nil {
		return nil
	}
	return data
}

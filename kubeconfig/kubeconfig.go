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
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Entry is one cluster with one user and one context, all called Name.
type Entry struct {
	Name   string
	Server string // https://host:port
	CA     []byte // PEM
	Cert   []byte // PEM
	Key    []byte // PEM
}

// TakenError says that the name belongs to somebody else already.
type TakenError struct {
	Path   string
	Kind   string // cluster, user or context
	Name   string
	Server string // of the cluster that has the name; empty if none has
}

func (e *TakenError) Error() string {
	whose := "not this cluster's"
	if e.Server != "" {
		whose += ", but that of " + e.Server
	}
	return fmt.Sprintf("%s: there is a %s called %s already, and it is %s: choose another name with --context, or remove that entry",
		e.Path, e.Kind, e.Name, whose)
}

// Existing returns the certificate and key that the file has under the name,
// if its cluster has this CA; nil without an error if there is none.
func Existing(path, name string, ca []byte) (cert, key []byte, err error) {
	f, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	if err := f.free(Entry{Name: name, CA: ca}); err != nil {
		return nil, nil, err
	}
	user := find(value(f.root, "users"), name, "user")
	return decode(user, "client-certificate-data"), decode(user, "client-key-data"), nil
}

// Merge adds or renews the entry and returns whether the file changed. It is
// made the current context if there is none, or if use says so. The file is
// replaced whole, mode 0600; a name that belongs to somebody else is a
// *TakenError and changes nothing.
func Merge(path string, e Entry, use bool) (changed bool, err error) {
	unlock, err := lock(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	f, err := read(path)
	if err != nil {
		return false, err
	}
	data, err := f.merge(e, use)
	if err != nil || data == nil {
		return false, err
	}
	return true, write(path, data)
}

// merge returns what the file becomes, nil if it stays.
func (f *file) merge(e Entry, use bool) ([]byte, error) {
	if err := f.free(e); err != nil {
		return nil, err
	}
	before, err := f.encode()
	if err != nil {
		return nil, err
	}
	f.put(e)
	if use || text(f.root, "current-context") == "" {
		set(f.root, "current-context", e.Name)
	}
	after, err := f.encode()
	if err != nil || bytes.Equal(before, after) {
		return nil, err
	}
	return after, nil
}

// Render returns a file with the entry alone.
func Render(e Entry) ([]byte, error) {
	f := empty("")
	f.put(e)
	set(f.root, "current-context", e.Name)
	return f.encode()
}

// put adds the entry, or renews what is there under its name.
func (f *file) put(e Entry) {
	put(f.root, "clusters", "cluster", e.Name, pairs{
		{"server", e.Server}, {"certificate-authority-data", encode(e.CA)},
	})
	put(f.root, "users", "user", e.Name, pairs{
		{"client-certificate-data", encode(e.Cert)}, {"client-key-data", encode(e.Key)},
	})
	put(f.root, "contexts", "context", e.Name, pairs{{"cluster", e.Name}, {"user", e.Name}})
}

// free refuses a name that somebody else uses: a cluster with another CA, or,
// where no cluster has the name, a user or a context of it.
func (f *file) free(e Entry) error {
	cluster := find(value(f.root, "clusters"), e.Name, "cluster")
	if !isNull(cluster) && !bytes.Equal(decode(cluster, "certificate-authority-data"), e.CA) {
		return &TakenError{f.path, "cluster", e.Name, text(cluster, "server")}
	}
	if user := find(value(f.root, "users"), e.Name, "user"); isNull(cluster) && !isNull(user) {
		return &TakenError{f.path, "user", e.Name, ""}
	}
	context := find(value(f.root, "contexts"), e.Name, "context")
	if other := text(context, "cluster"); other != "" && other != e.Name {
		return &TakenError{f.path, "context", e.Name, text(find(value(f.root, "clusters"), other, "cluster"), "server")}
	}
	return nil
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

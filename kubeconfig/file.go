// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// file is a kubeconfig file, as nodes: they keep comments, order and keys that
// nobody here knows.
type file struct {
	path string
	doc  *yaml.Node
	root *yaml.Node // the mapping in doc
}

func empty(path string) *file {
	root := &yaml.Node{Kind: yaml.MappingNode}
	set(root, "apiVersion", "v1")
	set(root, "kind", "Config")
	return &file{path, &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}}, root}
}

// read reads the file; one that is missing or empty is an empty one. What
// cannot be changed without loss is refused.
func read(path string) (*file, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(bytes.TrimSpace(data)) == 0) {
		return empty(path), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	f, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s was left as it is: %w; name another file with --kubeconfig", path, err)
	}
	f.path = path
	return f, nil
}

func parse(data []byte) (*file, error) {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("it holds only comments")
	} else if err != nil {
		return nil, fmt.Errorf("it is not YAML: %w", err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one YAML document")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("it is not a kubeconfig file")
	}
	if hasAnchor(&doc) {
		// A change behind an anchor would reach every entry that refers to it.
		return nil, errors.New("it uses YAML anchors")
	}
	for _, list := range [][2]string{{"clusters", "cluster"}, {"users", "user"}, {"contexts", "context"}} {
		if err := checkList(value(root, list[0]), list[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", list[0], err)
		}
	}
	f := &file{doc: &doc, root: root}
	return f, f.survives(data)
}

// survives refuses what the encoder cannot write back with the same meaning,
// and what has no meaning, such as a key given twice.
func (f *file) survives(data []byte) error {
	var before, after any
	if err := yaml.Unmarshal(data, &before); err != nil {
		return fmt.Errorf("it is not valid: %w", err)
	}
	again, err := f.encode()
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(again, &after); err != nil || !reflect.DeepEqual(before, after) {
		return errors.New("it is written in a form of YAML that is seldom used and would not survive a change")
	}
	return nil
}

// checkList refuses what is not a list of named bodies.
func checkList(list *yaml.Node, body string) error {
	if isNull(list) {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: not a list", list.Line)
	}
	for _, element := range list.Content {
		b := value(element, body)
		if element.Kind != yaml.MappingNode || (!isNull(b) && b.Kind != yaml.MappingNode) {
			return fmt.Errorf("line %d: not a %s with its name", element.Line, body)
		}
	}
	return nil
}

func hasAnchor(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return true
	}
	for _, c := range n.Content {
		if hasAnchor(c) {
			return true
		}
	}
	return false
}

// encode writes the file in the form that kubectl gives it.
func (f *file) encode() ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := errors.Join(enc.Encode(f.doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return out.Bytes(), nil
}

// lock takes the lock that kubectl takes too (client-go,
// tools/clientcmd/loader.go, lockFile), so that neither loses what the other
// writes. It also makes the folder.
func lock(path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there: another program is changing %s; run `muster kubeconfig` again, and remove that file first if nothing else runs",
			name, path)
	}
	if err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	return func() error { return errors.Join(f.Close(), os.Remove(name)) }, nil
}

// write replaces the file whole, or the file that a link leads to.
func write(path string, data []byte) error {
	if _, err := os.Lstat(path); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("write kubeconfig: %w", err)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*") // 0600 by itself
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
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

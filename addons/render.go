// SPDX-License-Identifier: Apache-2.0

package addons

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"
)

//go:embed files/*.yaml
var files embed.FS

// load renders one embedded file and splits it into its documents, which stand
// in the file in the order to apply them in.
func load[T any](name string, in T) ([]Object, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"quote": quote}).ParseFS(files, "files/"+name)
	if err != nil {
		return nil, fmt.Errorf("parse add-on %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, in); err != nil {
		return nil, fmt.Errorf("render add-on %s: %w", name, err)
	}
	var objects []Object
	for _, doc := range strings.Split(out.String(), "\n---\n") {
		o, err := object([]byte(strings.TrimPrefix(doc, "---\n")))
		if err != nil {
			return nil, fmt.Errorf("render add-on %s: %w", name, err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// object names the object that a document holds.
func object(doc []byte) (Object, error) {
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		Metadata   struct {
			Name      string `yaml:"name"`
			Namespace string `yaml:"namespace"`
		} `yaml:"metadata"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return Object{}, fmt.Errorf("parse object: %w", err)
	}
	if head.APIVersion == "" || head.Kind == "" || head.Metadata.Name == "" {
		return Object{}, fmt.Errorf("object without apiVersion, kind or name:\n%s", doc)
	}
	return Object{
		APIVersion: head.APIVersion, Kind: head.Kind,
		Namespace: head.Metadata.Namespace, Name: head.Metadata.Name,
		YAML: append(bytes.TrimSpace(doc), '\n'),
	}, nil
}

// quote writes a string that YAML reads back as itself: JSON strings are YAML
// double-quoted scalars.
func quote(s string) (string, error) {
	out, err := json.Marshal(s)
	return string(out), err
}

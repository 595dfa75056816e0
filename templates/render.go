// SPDX-License-Identifier: Apache-2.0

package templates

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"text/template"
)

//go:embed files/*.tmpl
var files embed.FS

// render executes one embedded file. Every caller hands over a struct, for
// which text/template refuses unknown fields.
func render[T any](name string, in T) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"quote": quote, "arg": systemdArg,
	}).ParseFS(files, path.Join("files", name), "files/parts.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, in); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// quote writes a string that JSON, YAML and TOML all read back as itself: a
// JSON string is a YAML double-quoted scalar and a TOML basic string.
func quote(s string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// systemdArg writes one word of an Exec line so that systemd passes it on
// unchanged: quotes, backslashes, $ (variables) and % (specifiers) have a
// meaning of their own (systemd.service(5), COMMAND LINES).
func systemdArg(s string) (string, error) {
	if strings.ContainsAny(s, "\n\r\x00") {
		return "", fmt.Errorf("argument %q: a line break or NUL cannot stand in a unit file", s)
	}
	s = strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
	if s != "" && !strings.ContainsAny(s, " \t\"'\\;") {
		return s, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, nil
}

func joinStringers[T fmt.Stringer](items []T) string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = item.String()
	}
	return strings.Join(out, ",")
}

// need collects what an input lacks, so that all of it is said at once.
type need struct {
	what string
	errs []error
}

func (n *need) str(field, value string) *need {
	if value == "" {
		n.errs = append(n.errs, fmt.Errorf("%s is empty", field))
	}
	return n
}

func (n *need) addr(field string, value netip.Addr) *need {
	if !value.IsValid() {
		n.errs = append(n.errs, fmt.Errorf("%s is not an address", field))
	}
	return n
}

func (n *need) some(field string, length int) *need {
	if length == 0 {
		n.errs = append(n.errs, fmt.Errorf("%s is empty", field))
	}
	return n
}

func (n *need) err() error {
	if err := errors.Join(n.errs...); err != nil {
		return fmt.Errorf("render %s: %w", n.what, err)
	}
	return nil
}

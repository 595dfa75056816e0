// SPDX-License-Identifier: Apache-2.0

package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
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

// quote writes a string that YAML and TOML both read back as itself. Their
// double-quoted strings share these escapes, and whatever is not plain ASCII is
// escaped: YAML folds some Unicode line breaks and refuses other characters.
func quote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("value %q: not UTF-8", s)
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case ' ' <= r && r <= '~':
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String(), nil
}

// systemdArg writes one word of an Exec line so that systemd passes it on
// unchanged: quotes, backslashes, $ (variables) and % (specifiers) have a
// meaning of their own (systemd.service(5), COMMAND LINES).
func systemdArg(s string) (string, error) {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", fmt.Errorf("argument %q: a line break, another control character or what is not UTF-8 cannot stand in a unit file", s)
	}
	s = strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
	if s != "" && !strings.ContainsAny(s, " \"'\\;") {
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

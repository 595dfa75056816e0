// SPDX-License-Identifier: Apache-2.0

package templates_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/muster-project/muster/templates"
)

// execWords splits the ExecStart of a unit as systemd does (systemd.syntax(7),
// QUOTING, and systemd.service(5), COMMAND LINES), as far as it can appear.
func execWords(t *testing.T, unit []byte) []string {
	t.Helper()
	text := strings.ReplaceAll(string(unit), "\\\n", " ")
	_, text, _ = strings.Cut(text, "\nExecStart=")
	text, _, _ = strings.Cut(text, "\n")
	var words []string
	var word strings.Builder
	inWord, quoted := false, rune(0)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		switch {
		case r == '\\':
			next, size := utf8.DecodeRuneInString(text[i:])
			if next != '\\' && next != '"' {
				t.Fatalf("unknown escape \\%c", next)
			}
			word.WriteRune(next)
			i, inWord = i+size, true
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted == 0 && (r == '"' || r == '\''):
			quoted, inWord = r, true
		case quoted == 0 && r == ' ':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		case r == '%' || r == '$':
			if !strings.HasPrefix(text[i:], string(r)) {
				t.Fatalf("a single %c would be replaced by systemd", r)
			}
			word.WriteRune(r)
			i++
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted != 0 {
		t.Fatalf("quote without end: %s", text)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

func seeds(f *testing.F) {
	for _, s := range []string{"", "plain", "two words", `a"b`, `back\slash\`, "100%", "$HOME", "a;b", "it's", "#x", "ü", "a\nb", "\x00", "\x7f", "\u0085\u2028\ufeff", "😀", "\xff", "{{.}}", ": - [x]"} {
		f.Add(s)
	}
}

func FuzzUnitArguments(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		unit, err := templates.KubeletUnit{Node: "n", NodeIPs: []netip.Addr{addr("10.0.0.1")}, Labels: map[string]string{"k": s}}.Render()
		if bad := !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl); bad != (err != nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			return
		}
		if words := execWords(t, unit); !slices.Contains(words, "--node-labels=k="+s) {
			t.Fatalf("%q is not among %q", s, words)
		}
	})
}

func FuzzQuotedValues(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		out, err := templates.Kubeconfig{Cluster: "c", Server: "https://s", CAFile: "ca", User: "u", Token: s}.Render()
		if utf8.ValidString(s) != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			return
		}
		config, err := clientcmd.Load(out)
		if err != nil || config.AuthInfos["u"].Token != s {
			t.Fatalf("YAML: %q came back as %+v, %v", s, config, err)
		}
		out, err = templates.ContainerdConfig{SandboxImage: s}.Render()
		if err != nil {
			t.Fatal(err)
		}
		var c containerdConfig
		if err := toml.Unmarshal(out, &c); err != nil || c.Plugins.Images.PinnedImages["sandbox"] != s {
			t.Fatalf("TOML: %q came back as %q, %v", s, c.Plugins.Images.PinnedImages, err)
		}
	})
}

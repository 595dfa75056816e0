// SPDX-License-Identifier: Apache-2.0

package document

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	section := Section{Name: "install", By: "e2e/bench"}
	begin, end := section.marks()
	steps := []struct{ before, text, want string }{
		{"", "one\n", "# Benchmarks\n\n" + begin + "one\n" + end},
		{"# Mine\n\ntext\n", "one\n", "# Mine\n\ntext\n\n" + begin + "one\n" + end},
		{"# Mine\n\n" + begin + "one\n" + end + "\n## Other\n", "two\n",
			"# Mine\n\n" + begin + "two\n" + end + "\n## Other\n"},
	}
	for _, s := range steps {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if s.before != "" {
			if err := os.WriteFile(path, []byte(s.before), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // again changes nothing
			if err := section.Replace(path, []byte(s.text)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != s.want {
				t.Errorf("from %q: %q (%v), want %q", s.before, got, err, s.want)
			}
		}
	}
}

// Half a section could be somebody's text.
func TestHalfASectionIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	section := Section{Name: "install", By: "e2e/bench"}
	begin, _ := section.marks()
	half := "# Mine\n" + begin + "text\n"
	if err := os.WriteFile(path, []byte(half), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := section.Replace(path, []byte("one\n")); err == nil {
		t.Error("no error")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != half {
		t.Errorf("the file is now %q (%v)", got, err)
	}
}

func TestModelOf(t *testing.T) {
	if got := modelOf([]byte("processor\t: 0\nmodel name\t: Example CPU @ 2 GHz: fast\n")); got != "Example CPU @ 2 GHz: fast" {
		t.Errorf("%q", got)
	}
	if got := modelOf([]byte("processor\t: 0\n")); got == "" {
		t.Error("nothing is known of a processor without a name")
	}
}

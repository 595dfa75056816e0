// SPDX-License-Identifier: Apache-2.0

package document

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Section is a part of a file that one program writes. What is around it
// stays.
type Section struct {
	Name string
	By   string // the program's folder, for whoever wonders
}

// marks are the lines around the section.
func (s Section) marks() (begin, end string) {
	return fmt.Sprintf("<!-- %s: written by %s -->\n", s.Name, s.By), fmt.Sprintf("<!-- %s: end -->\n", s.Name)
}

// Replace puts text into a file, in place of the section's earlier text or at
// the file's end. A file that is not there is made.
func (s Section) Replace(path string, text []byte) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte("# Benchmarks\n"), nil
	}
	if err != nil {
		return err
	}
	replaced, err := s.in(string(old), string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(replaced), 0o644)
}

func (s Section) in(old, text string) (string, error) {
	begin, end := s.marks()
	whole := begin + text + end
	before, rest, has := strings.Cut(old, begin)
	if !has {
		return strings.TrimRight(old, "\n") + "\n\n" + whole, nil
	}
	_, after, ends := strings.Cut(rest, end)
	if !ends {
		return "", fmt.Errorf("%q is not followed by %q: put it back, or remove both", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + whole + after, nil
}

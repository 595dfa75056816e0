// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// places belong to one machine or to one company's network: what is built here
// takes mirrors and proxies from the machine's own configuration.
func places() []string {
	return []string{"/work/" + "main", "/work/" + "shared", "deb." + "debian.org", "proxy." + "golang.org", "/root/" + "go/", "/root/" + ".cache"}
}

func TestNoFileNamesAPlace(t *testing.T) {
	looked := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, d.Name()) {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		looked++
		for _, place := range places() {
			if bytes.Contains(text, []byte(place)) {
				t.Errorf("%s names %s", path, place)
			}
		}
		return nil
	})
	if err != nil || looked < 200 {
		t.Errorf("looked at %d files: %v", looked, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead feeds a reader any index and any manifest. What it accepts it has
// understood completely: it renders to the same bytes.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"kubernetes", "coredns", "cni-plugins"} {
		manifest, err := os.ReadFile(filepath.Join("testdata", "manifest-"+name+".golden"))
		if err != nil {
			f.Fatal(err)
		}
		a, err := DecodeManifest(manifest)
		if err != nil {
			f.Fatal(err)
		}
		index, err := EncodeIndex([]Artifact{a})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(index, manifest)
	}
	f.Add([]byte(`{"manifests":[{"digest":"sha256:"}]}`), []byte(`{"layers":[{"annotations":{}}]}`))
	f.Fuzz(func(t *testing.T, index, manifest []byte) {
		if a, err := DecodeManifest(manifest); err == nil {
			again, err := EncodeManifest(a)
			if err != nil || !bytes.Equal(again, manifest) {
				t.Errorf("accepted, and renders as\n%s (%v)", again, err)
			}
		}
		artifacts, err := readIndex(index, func(string) ([]byte, error) { return manifest, nil })
		if err != nil {
			return
		}
		again, err := EncodeIndex(artifacts)
		if err != nil || !bytes.Equal(again, index) {
			t.Errorf("accepted, and renders as\n%s (%v)", again, err)
		}
	})
}

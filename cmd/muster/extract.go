// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/bundle"
)

func newBundleExtractCommand(s streams) *cobra.Command {
	var dir, to string
	cmd := &cobra.Command{
		Use:   "extract ARTIFACT...",
		Short: "Take programs out of a bundle, such as kubectl for this computer",
		Long: "Writes the files of each artifact into a directory, checked. kubectl is part of the\n" +
			"artifact kubernetes, and `extract kubectl` is short for it.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, names []string) error {
			b, err := openBundle(dir)
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := extract(s.out, b, name, to); err != nil {
					return fmt.Errorf("extract %s: %w", name, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "bundle", "", "directory of the bundle")
	cmd.Flags().StringVar(&to, "to", ".", "directory to write to")
	return cmd
}

func extract(out io.Writer, b *bundle.Bundle, name, to string) error {
	artifact := name
	if name == "kubectl" {
		artifact = "kubernetes"
	}
	a, err := b.Lookup(artifact)
	if err != nil {
		return err
	}
	for _, f := range a.Files {
		target := f.Name
		if name == "kubectl" {
			// The multi-call binary is kubectl under that name.
			if f.Name != "kubernetes" && f.Name != "kubectl" {
				continue
			}
			target = "kubectl"
		}
		if err := extractFile(b, f, filepath.Join(to, target)); err != nil {
			return err
		}
		fmt.Fprintln(out, filepath.Join(to, target))
	}
	return nil
}

func extractFile(b *bundle.Bundle, f bundle.File, path string) error {
	in, err := b.OpenFile(f)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if _, err := io.Copy(tmp, in); err != nil {
		return err
	}
	if err := tmp.Chmod(f.Mode); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

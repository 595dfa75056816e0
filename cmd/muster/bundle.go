// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/bundle/build"
)

// newBundleCommand is `muster bundle`: everything that gets installed, in one
// directory.
func newBundleCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Build, list and verify what gets installed",
		Long: "A bundle is a directory with everything muster installs: programs and container\n" +
			"images, each with its version, licence, origin and digest. The default place is\n" +
			"$MUSTER_BUNDLE or, without it, muster/bundles/" + build.Kubernetes + " in the user's cache directory.",
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newBundleBuildCommand(io), newBundleListCommand(io), newBundleVerifyCommand(io))
	return cmd
}

func newBundleBuildCommand(io streams) *cobra.Command {
	var o build.Options
	var check []string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Make a bundle, or bring one up to date",
		Long: "Builds each artifact from its sources, or takes it from the cache if nothing it is\n" +
			"made from has changed. What is in the bundle already and not asked for stays in it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(e build.Event) { fmt.Fprintln(io.err, eventLine(e)) }
			if len(check) > 0 {
				return checkReproducible(cmd, io, o, check)
			}
			begin := time.Now()
			b, err := build.Build(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("build bundle: %w", err)
			}
			fmt.Fprintf(io.out, "bundle %s in %s: %d artifacts, %s stored, %s unpacked, built in %s\n", b.Version(), b.Dir(),
				len(b.Artifacts()), bytesText(total(b, bundle.Artifact.BlobSize)), bytesText(total(b, bundle.Artifact.Size)),
				time.Since(begin).Round(100*time.Millisecond))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Out, "out", "", "directory of the bundle")
	flags.StringVar(&o.Cache, "cache", "", "directory of finished artifacts (default muster/bundle in the user's cache directory)")
	flags.StringVar(&o.Source, "source", "", "muster's source tree (default the one around the working directory)")
	flags.StringVar(&o.From, "from", "", "directory or http(s) URL of release files to take instead of building (docs/bundle.md)")
	flags.StringSliceVar(&o.Groups, "group", []string{bundle.Core, bundle.Test}, "groups to build: core, test, peer")
	flags.StringSliceVar(&o.Only, "only", nil, "artifacts to build, instead of groups")
	flags.StringSliceVar(&check, "check-reproducible", nil, "build these artifacts twice, from nothing and in other places, and compare their digests")
	return cmd
}

func checkReproducible(cmd *cobra.Command, io streams, o build.Options, names []string) error {
	results, err := build.CheckReproducible(cmd.Context(), o, names)
	if err != nil {
		return fmt.Errorf("check that builds repeat: %w", err)
	}
	var errs []error
	for _, r := range results {
		fmt.Fprintf(io.out, "%s/%s: %s\n", r.Artifact, r.File, r.First)
		if r.First != r.Second {
			errs = append(errs, fmt.Errorf("%s/%s: sha256 %s once, %s again: its build depends on time or place", r.Artifact, r.File, r.First, r.Second))
		}
	}
	return errors.Join(errs...)
}

func newBundleListCommand(io streams) *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the artifacts of a bundle",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := openBundle(dir)
			if err != nil {
				return err
			}
			switch output {
			case "":
				return listTable(io.out, b)
			case "json":
				return listJSON(io.out, b)
			default:
				return fmt.Errorf("output %q: there are a table (the default) and json", output)
			}
		},
	}
	cmd.Flags().StringVar(&dir, "bundle", "", "directory of the bundle")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for programs")
	return cmd
}

func newBundleVerifyCommand(io streams) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read a whole bundle and report everything that is damaged, missing or too much",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := openBundle(dir)
			if err != nil {
				return err
			}
			faults := b.Verify(cmd.Context())
			for _, f := range faults {
				fmt.Fprintln(io.out, f)
			}
			if len(faults) > 0 {
				return fmt.Errorf("verify bundle %s: %d faults; `muster bundle build --out %s` repairs it", b.Dir(), len(faults), b.Dir())
			}
			fmt.Fprintf(io.out, "bundle %s in %s: %d artifacts are whole\n", b.Version(), b.Dir(), len(b.Artifacts()))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "bundle", "", "directory of the bundle")
	return cmd
}

// openBundle opens the bundle in dir, or the one in the default place.
func openBundle(dir string) (*bundle.Bundle, error) {
	if dir == "" {
		var err error
		if dir, err = build.DefaultOut(build.Kubernetes); err != nil {
			return nil, err
		}
	}
	return bundle.Open(dir)
}

func listTable(out io.Writer, b *bundle.Bundle) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tVERSION\tKIND\tGROUP\tUNPACKED\tSTORED\tLICENCE\tFROM")
	for _, a := range b.Artifacts() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.Version, a.Kind, a.Group, bytesText(a.Size()), bytesText(a.BlobSize()), a.License, a.Module)
	}
	return w.Flush()
}

// bundleJSON is what `bundle list -o json` prints. Programs read it: fields are
// added, never renamed or removed, within a schema.
type bundleJSON struct {
	Schema     string         `json:"schema"` // muster/bundle/v1
	Directory  string         `json:"directory"`
	Version    string         `json:"version"`
	Kubernetes string         `json:"kubernetes"`
	Artifacts  []artifactJSON `json:"artifacts"`
}

type artifactJSON struct {
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	Kind      string     `json:"kind"`
	Group     string     `json:"group"`
	License   string     `json:"license"`
	Module    string     `json:"module"`
	Toolchain string     `json:"toolchain,omitempty"`
	Ref       string     `json:"ref,omitempty"`
	Files     []fileJSON `json:"files"`
}

type fileJSON struct {
	Name     string `json:"name"`
	Mode     string `json:"mode"` // octal
	SHA256   string `json:"sha256"`
	Size     int64  `json:"size"` // bytes
	Blob     string `json:"blob"` // sha256 of the stored blob
	BlobSize int64  `json:"blobSize"`
}

func listJSON(out io.Writer, b *bundle.Bundle) error {
	doc := bundleJSON{Schema: "muster/bundle/v1", Directory: b.Dir(), Version: b.Version(), Kubernetes: b.Kubernetes(), Artifacts: []artifactJSON{}}
	for _, a := range b.Artifacts() {
		aj := artifactJSON{
			Name: a.Name, Version: a.Version, Kind: string(a.Kind), Group: a.Group,
			License: a.License, Module: a.Module, Toolchain: a.Toolchain, Ref: a.Ref,
		}
		for _, f := range a.Files {
			aj.Files = append(aj.Files, fileJSON{f.Name, fmt.Sprintf("%04o", f.Mode.Perm()), f.SHA256, f.Size, f.Blob, f.BlobSize})
		}
		doc.Artifacts = append(doc.Artifacts, aj)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// eventLine is one line of progress.
func eventLine(e build.Event) string {
	what := "bundle"
	if e.Artifact != "" {
		what = e.Artifact + " " + e.Version
	}
	seconds := fmt.Sprintf("%.1fs", e.Elapsed.Seconds())
	switch e.Stage {
	case build.Making:
		return fmt.Sprintf("%s: building (%s)", what, seconds)
	case build.Made:
		return fmt.Sprintf("%s: built in %s, %s stored, %s unpacked", what, seconds, bytesText(e.BlobSize), bytesText(e.Size))
	case build.Cached:
		return fmt.Sprintf("%s: from the cache, %s stored, %s unpacked", what, bytesText(e.BlobSize), bytesText(e.Size))
	case build.Waiting:
		if e.Reason == "" {
			return what + ": waiting, another process builds it"
		}
		return what + ": waiting, " + e.Reason
	default:
		return fmt.Sprintf("%s: %s, %s", what, e.Stage, e.Reason)
	}
}

func total(b *bundle.Bundle, size func(bundle.Artifact) int64) int64 {
	var n int64
	for _, a := range b.Artifacts() {
		n += size(a)
	}
	return n
}

// bytesText is a size for people: 832 B, 33.9 MB.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
}

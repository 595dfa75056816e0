// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/muster-project/muster/e2e/program"
)

//go:embed files/root.sh
var rootScript string

// rootPackages are the Debian packages of the images' root: what the specs call
// inside of pods. Only what none of them has is busybox's: its wget, linked
// statically, crashes where it finds the libraries that the others bring.
func rootPackages() []string {
	return []string{"bash", "busybox-static", "conntrack", "curl", "dash", "iproute2", "netcat-openbsd", "wget"}
}

// imageConfigs says how the image of each name starts. All of them have the
// same root, so a node stores it once. The names are those of the suite without
// registry and tag.
func imageConfigs() map[string]v1.Config {
	base := v1.Config{WorkingDir: "/", Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}
	starts := func(entrypoint, cmd string) v1.Config {
		c := base
		c.Entrypoint = strings.Fields(entrypoint)
		c.Cmd = strings.Fields(cmd)
		return c
	}
	return map[string]v1.Config{
		"agnhost": starts("/agnhost", "pause"),
		"pause":   starts("/agnhost pause", ""),
		// Some web server, for specs that look at endpoints only.
		"nginx":                  starts("/agnhost", "test-webserver"),
		"busybox":                starts("", "sh"),
		"regression-issue-74839": starts("/regression-issue-74839", ""),
		// Its pod sleeps and runs conntrack.
		"distroless-iptables": starts("", "sh"),
	}
}

// makeRoot writes the images' root file system as a tar. The packages come from
// where this computer's own apt gets them.
func makeRoot(ctx context.Context, programs, to string) error {
	script := filepath.Join(programs, "root.sh")
	if err := os.WriteFile(script, []byte(rootScript), 0o644); err != nil {
		return err
	}
	sources, err := aptSources("/etc/apt")
	if err != nil {
		return err
	}
	args := []string{
		"--quiet", "--variant=extract", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
		"--include=" + strings.Join(rootPackages(), ","),
		`--aptopt=Acquire::Check-Valid-Until "false"`,
		"--extract-hook=" + fmt.Sprintf("sh %q \"$1\" %q", script, programs),
	}
	for _, dir := range []string{"man", "doc", "locale"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+dir+"/*")
	}
	// The suite is empty: the sources name theirs.
	args = append(args, "", to)
	_, err = program.Output(exec.CommandContext(ctx, "mmdebstrap", append(args, sources...)...))
	return err
}

// aptSources are the files that say where packages come from.
func aptSources(dir string) ([]string, error) {
	var found []string
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("find Debian's packages: %s has no sources; the images of the tests are made from Debian's packages", dir)
	}
	return found, nil
}

// makeImages writes one tar with an image under each of the suite's names that
// imageConfigs knows.
func makeImages(root string, names []string, to string) error {
	layer, err := tarball.LayerFromFile(root)
	if err != nil {
		return fmt.Errorf("read %s: %w", root, err)
	}
	configs := imageConfigs()
	images := map[name.Tag]v1.Image{}
	for _, full := range names {
		tag, err := name.NewTag(full, name.StrictValidation)
		if err != nil {
			return fmt.Errorf("image %s: %w", full, err)
		}
		config, ok := configs[path.Base(tag.RepositoryStr())]
		if !ok || strings.HasPrefix(tag.RegistryStr(), "invalid.") {
			continue
		}
		images[tag], err = image(layer, config)
		if err != nil {
			return fmt.Errorf("image %s: %w", full, err)
		}
	}
	if err := tarball.MultiWriteToFile(to, images); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return nil
}

func image(layer v1.Layer, config v1.Config) (v1.Image, error) {
	built, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: architecture, Config: config, RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(built, layer)
}

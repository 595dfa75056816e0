// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/bundle"
)

// formatVersion is part of every cache key. Raise it when the same inputs are
// to give other bytes than before.
const formatVersion = 1

// A recipe says how one artifact is made.
type recipe struct {
	name, version string
	group         string
	license       string // SPDX
	module        string // where it is from, for people
	makers        []maker
	image         *image   // nil: the files that the makers make are the artifact
	release       *release // how its project releases it; nil: not as files
	own           bool     // made from muster's tree: changes often, so quickly compressed
	diskMiB       int64    // what making it takes at most, Go's build cache included
}

// A maker makes files. The makers are goBuild, cBuild, debian, debianTree and
// fetch.
type maker interface {
	// inputs renders everything that decides what make makes.
	inputs(ctx context.Context, w *workshop) (string, error)
	// make writes the files into dir, which is empty or has other makers' files.
	make(ctx context.Context, w *workshop, dir string) error
	// tools are what has to be installed for make.
	tools() []tool
	// toolchain is what compiles, for people; empty if nothing does.
	toolchain(w *workshop) string
}

// kind is what the artifact of r is.
func (r recipe) kind() bundle.Kind {
	if r.image != nil {
		return bundle.Image
	}
	return bundle.Binary
}

// ref is the image reference of r, empty if it is no image.
func (r recipe) ref() string {
	if r.image == nil {
		return ""
	}
	return r.image.Ref
}

// level is how hard r's files are compressed. Measured on the 137 MB Kubernetes
// binary: fastest 40.6 MB, default 38.4 (1.1 s), better 36.3 (2.2 s), best 33.9
// (13.5 s), all decompressed in 0.13-0.17 s. What is built once a release and
// sent to every host is worth 11 seconds; what is built after each edit is not.
// A window above 8 MB saves one percent and costs every host memory.
func (r recipe) level() zstd.EncoderLevel {
	if r.own {
		return zstd.SpeedBetterCompression
	}
	return zstd.SpeedBestCompression
}

// key is the name of r's artifact in the cache: a hash of all that decides it.
func (r recipe) key(ctx context.Context, w *workshop) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "format %d\n%s %s %s %s %s %v\n", formatVersion, r.name, r.version, r.group, r.license, r.module, r.level())
	img, err := json.Marshal(r.image)
	if err != nil {
		return "", fmt.Errorf("%s: hash its image: %w", r.name, err)
	}
	fmt.Fprintf(h, "%s\n", img)
	for _, m := range r.makers {
		in, err := m.inputs(ctx, w)
		if err != nil {
			return "", fmt.Errorf("%s: find what it is made from: %w", r.name, err)
		}
		fmt.Fprintf(h, "%T %s\n", m, in)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// toolchain is what compiles r's files.
func (r recipe) toolchain(w *workshop) string {
	var all []string
	for _, m := range r.makers {
		if t := m.toolchain(w); t != "" && !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return strings.Join(all, ", ")
}

// tools are what has to be installed to make r.
func (r recipe) tools() []tool {
	var all []tool
	for _, m := range r.makers {
		all = append(all, m.tools()...)
	}
	return all
}

// selectRecipes picks from the catalogue what o asks for, in its order.
func selectRecipes(all []recipe, o Options) ([]recipe, error) {
	if len(o.Only) == 0 {
		return slices.DeleteFunc(slices.Clone(all), func(r recipe) bool { return !slices.Contains(o.Groups, r.group) }), nil
	}
	var picked []recipe
	for _, name := range o.Only {
		i := slices.IndexFunc(all, func(r recipe) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("artifact %q: muster knows none of that name; there are %s", name, strings.Join(names(all), " "))
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

func names(recipes []recipe) []string {
	var all []string
	for _, r := range recipes {
		all = append(all, r.name)
	}
	return all
}

// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/muster-project/muster/bundle"
)

// Build makes the artifacts that o asks for and returns the bundle that has
// them. What is in the bundle already and was not asked for stays in it. Missing
// tools and disk space are reported, all of them, before anything is made. When
// Build fails or ctx ends, the bundle is what it was, and what was finished is
// in the cache.
func Build(ctx context.Context, o Options) (*bundle.Bundle, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return buildAll(ctx, o, catalogue())
}

// buildAll is Build with a catalogue of the caller's.
func buildAll(ctx context.Context, o Options, all []recipe) (*bundle.Bundle, error) {
	recipes, err := selectRecipes(all, o)
	if err != nil {
		return nil, err
	}
	if o.From != "" {
		if recipes, err = useReleases(recipes, o.From); err != nil {
			return nil, err
		}
	}
	w, err := newWorkshop(ctx, o)
	if err != nil {
		return nil, err
	}
	b := builder{options: o, workshop: w, cache: cache{o.Cache}}
	unlock, err := b.cache.lock(ctx, lockName(o.Out), func() {
		o.Progress(Event{Stage: Waiting, Reason: "another process builds the bundle " + o.Out})
	})
	if err != nil {
		return nil, err
	}
	defer unlock()
	kept, err := b.keep(all, recipes)
	if err != nil {
		return nil, err
	}
	jobs, err := b.prepare(ctx, recipes)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		a, err := b.deliver(ctx, j)
		if err != nil {
			return nil, err
		}
		kept = append(kept, a)
	}
	if err := errors.Join(bundle.Write(o.Out, kept), removeDownloads(ctx, w)); err != nil {
		return nil, err
	}
	return bundle.Open(o.Out)
}

// lockName stands for an output directory among the locks.
func lockName(out string) string {
	if abs, err := filepath.Abs(out); err == nil {
		out = abs
	}
	return fmt.Sprintf("out-%.8x", sha256.Sum256([]byte(out)))
}

type builder struct {
	options  Options
	workshop *workshop
	cache    cache
}

// job is one recipe to be done.
type job struct {
	recipe recipe
	key    string
}

// keep returns the artifacts of an existing bundle that stay in it: those that
// muster still knows and that are not built now.
func (b builder) keep(all, building []recipe) ([]bundle.Artifact, error) {
	out := b.options.Out
	old, err := bundle.Open(out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.refuseForeign(out)
	}
	if err != nil {
		b.options.Progress(Event{Stage: Repaired, Reason: err.Error()})
		return nil, nil
	}
	return slices.DeleteFunc(old.Artifacts(), func(a bundle.Artifact) bool {
		return !slices.Contains(names(all), a.Name) || slices.Contains(names(building), a.Name)
	}), nil
}

// refuseForeign guards a directory that has something else in it.
func (b builder) refuseForeign(out string) error {
	entries, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into %s: %w", out, err)
	}
	for _, e := range entries {
		if e.Name() != "blobs" && e.Name() != "oci-layout" {
			return fmt.Errorf("%s holds %s and is no bundle: name an empty or new directory with --out", out, e.Name())
		}
	}
	if err := os.MkdirAll(filepath.Join(out, "blobs", "sha256"), 0o755); err != nil {
		return fmt.Errorf("make the bundle's directory: %w", err)
	}
	return nil
}

// prepare finds what has to be made and whether this computer can make it.
func (b builder) prepare(ctx context.Context, recipes []recipe) ([]job, error) {
	var jobs []job
	var toMake []recipe
	for _, r := range recipes {
		key, err := r.key(ctx, b.workshop)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job{r, key})
		if _, ok := b.cache.load(r.name, key); !ok {
			toMake = append(toMake, r)
		}
	}
	if len(toMake) == 0 {
		return jobs, nil
	}
	if err := b.workshop.missing(ctx, toMake); err != nil {
		return nil, err
	}
	return jobs, b.workshop.space(toMake)
}

// deliver brings an artifact into the bundle's directory, from the cache or made
// anew. A damaged entry of the cache is made again, once.
func (b builder) deliver(ctx context.Context, j job) (bundle.Artifact, error) {
	a, err := b.obtain(ctx, j)
	if err != nil {
		return bundle.Artifact{}, err
	}
	err = b.copyOut(ctx, j, a)
	if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
		if err := b.cache.drop(j.recipe.name, j.key); err != nil {
			return bundle.Artifact{}, fmt.Errorf("remove a damaged entry of the cache: %w", err)
		}
		if a, err = b.obtain(ctx, j); err != nil {
			return bundle.Artifact{}, err
		}
		err = b.copyOut(ctx, j, a)
	}
	return a, err
}

func (b builder) copyOut(ctx context.Context, j job, a bundle.Artifact) error {
	for _, f := range a.Files {
		from := filepath.Join(b.cache.entry(j.recipe.name, j.key), f.Blob)
		to := filepath.Join(b.options.Out, "blobs", "sha256", f.Blob)
		if err := copyBlob(ctx, from, to, f.Blob); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	return nil
}

// stillEvery is how often a long build says that it is not stuck.
const stillEvery = 15 * time.Second

// obtain returns an artifact that is in the cache afterwards.
func (b builder) obtain(ctx context.Context, j job) (bundle.Artifact, error) {
	r := j.recipe
	event := Event{Artifact: r.name, Version: r.version}
	begin := time.Now()
	tell := func(s Stage, a bundle.Artifact) {
		event.Stage, event.Elapsed, event.Size, event.BlobSize = s, time.Since(begin), a.Size(), a.BlobSize()
		b.options.Progress(event)
	}
	unlock, err := b.cache.lock(ctx, r.name, func() { tell(Waiting, bundle.Artifact{}) })
	if err != nil {
		return bundle.Artifact{}, err
	}
	defer unlock()
	if a, ok := b.cache.load(r.name, j.key); ok {
		tell(Cached, a)
		return a, nil
	}
	tell(Making, bundle.Artifact{})
	stop := every(stillEvery, func() { tell(Making, bundle.Artifact{}) })
	a, err := b.make(ctx, j)
	stop()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // what was cut off reports all kinds of errors
	}
	if err != nil {
		return bundle.Artifact{}, fmt.Errorf("make %s: %w", r.name, err)
	}
	tell(Made, a)
	return a, nil
}

// every calls do at each interval, until stop, which waits for a running call.
func every(interval time.Duration, do func()) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	tick := time.NewTicker(interval)
	go func() {
		defer close(ended)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do()
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// make runs a recipe and puts its artifact into the cache.
func (b builder) make(ctx context.Context, j job) (bundle.Artifact, error) {
	r := j.recipe
	work, remove, err := b.workshop.temp()
	if err != nil {
		return bundle.Artifact{}, err
	}
	defer remove()
	files, blobs := filepath.Join(work, "files"), filepath.Join(work, "blobs")
	if err := errors.Join(os.Mkdir(files, 0o755), os.Mkdir(blobs, 0o755)); err != nil {
		return bundle.Artifact{}, err
	}
	for _, m := range r.makers {
		if err := m.make(ctx, b.workshop, files); err != nil {
			return bundle.Artifact{}, err
		}
	}
	if files, err = r.finish(work, files); err != nil {
		return bundle.Artifact{}, err
	}
	a := bundle.Artifact{
		Name: r.name, Version: r.version, Kind: r.kind(), Group: r.group,
		License: r.license, Module: r.module, Toolchain: r.toolchain(b.workshop), Ref: r.ref(),
	}
	if a.Files, err = packAll(ctx, files, blobs, r); err != nil {
		return bundle.Artifact{}, err
	}
	if now, err := r.key(ctx, b.workshop); err != nil || now != j.key {
		return bundle.Artifact{}, errors.Join(errors.New("what it is made from has changed meanwhile; build it again"), err)
	}
	return a, b.cache.store(blobs, j.key, a)
}

// finish turns the made files into those of the artifact, and returns their
// directory.
func (r recipe) finish(work, files string) (string, error) {
	if r.image == nil {
		return files, nil
	}
	dir := filepath.Join(work, "image")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, r.image.write(runtime.GOARCH, files, filepath.Join(dir, r.name+".tar"))
}

// packAll compresses what is in dir. The modes are the recipe's to say, not
// those of whoever's umask made the files.
func packAll(ctx context.Context, dir, blobs string, r recipe) ([]bundle.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []bundle.File
	for _, e := range entries {
		f, err := pack(ctx, filepath.Join(dir, e.Name()), blobs, r.level())
		if err != nil {
			return nil, err
		}
		f.Mode = 0o755
		if r.image != nil {
			f.Mode = 0o644
		}
		files = append(files, f)
	}
	return files, nil
}

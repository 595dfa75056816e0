// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/bundle"
)

func TestBuild(t *testing.T) {
	y := newYard(t)
	b := y.mustBuild(t, recipes())
	if want := "tiny making, tiny made, picture making, picture made, hello making, hello made"; y.told() != want {
		t.Errorf("first build: %s", y.told())
	}
	for _, name := range []string{"tiny", "hello"} {
		program := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(program, content(t, b, name, name), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program).CombinedOutput()
		if want := map[string]string{"tiny": "tiny 1.2.3\n", "hello": "hello\n\n"}[name]; err != nil || string(out) != want {
			t.Errorf("%s says %q, %v; want %q", name, out, err, want)
		}
	}
	a, err := b.Lookup("tiny")
	if err != nil {
		t.Fatal(err)
	}
	if a.Files[0].Mode != 0o755 || !strings.HasPrefix(a.Toolchain, "go1.") {
		t.Errorf("mode %v, toolchain %q", a.Files[0].Mode, a.Toolchain)
	}

	again := y.mustBuild(t, recipes())
	if want := "tiny cached, picture cached, hello cached"; y.told() != want {
		t.Errorf("second build: %s", y.told())
	}
	if again.Version() != b.Version() {
		t.Errorf("second build gives %s, first gave %s", again.Version(), b.Version())
	}
}

func TestBuildMakesAgainWhatAnEditTouches(t *testing.T) {
	for _, c := range []struct{ name, path, text, want string }{
		{"module", "bundle/modules/tiny/main.go", "package main\n\nfunc main() {}\n", "tiny made, picture made"},
		{"package of the tree", "greeting/greeting.go", "package greeting\n\nconst Text = \"hi\"\n", "hello made"},
		{"embedded file", "greeting/greeting.txt", "hi\n", "hello made"},
		{"test", "bundle/modules/tiny/main_test.go", "package main\n", ""},
		{"another package", "other.go", "package other\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newYard(t)
			y.mustBuild(t, recipes())
			y.write(t, c.path, c.text)
			y.mustBuild(t, recipes())
			var made []string
			for _, e := range y.events {
				if e.Stage == Made {
					made = append(made, e.Artifact+" made")
				}
			}
			if got := strings.Join(made, ", "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBuildOnlyKeepsTheRest(t *testing.T) {
	y := newYard(t)
	all := []recipe{fileRecipe("a", "1"), fileRecipe("b", "1"), fileRecipe("gone", "1")}
	y.mustBuild(t, all)
	all[0], all[1] = fileRecipe("a", "2"), fileRecipe("b", "2")
	y.options.Only = []string{"b"}
	b := y.mustBuild(t, all[:2])
	if got := string(content(t, b, "a", "file")) + string(content(t, b, "b", "file")); got != "12" {
		t.Errorf("a and b are %q, want only b to be new", got)
	}
	if _, err := b.Lookup("gone"); err == nil {
		t.Error("what muster does not know any more stays in the bundle")
	}
	y.options.Only = []string{"c"}
	if _, err := y.build(t, all); err == nil || !strings.Contains(err.Error(), "there are a b gone") {
		t.Errorf("unknown name: %v", err)
	}
}

func TestBuildHealsDamage(t *testing.T) {
	y := newYard(t)
	all := []recipe{fileRecipe("a", "content"), fileRecipe("b", "other")}
	want := y.mustBuild(t, all).Version()
	damage := func(glob, told string) {
		t.Helper()
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			t.Fatalf("nothing at %s (%v)", glob, err)
		}
		for _, f := range files {
			if err := os.WriteFile(f, []byte("damage"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := y.mustBuild(t, all).Version(); got != want {
			t.Errorf("%s damaged: bundle is %s, want %s", glob, got, want)
		}
		if y.told() != told {
			t.Errorf("%s damaged: %s", glob, y.told())
		}
	}
	out, entries := y.options.Out, filepath.Join(y.options.Cache, "artifacts", "a", "*")
	damage(filepath.Join(out, "index.json"), "repaired, a cached, b cached")
	damage(filepath.Join(out, "oci-layout"), "a cached, b cached")
	damage(filepath.Join(out, "blobs", "sha256", "*"), "repaired, a cached, b cached")
	damage(filepath.Join(entries, manifestName), "a making, a made, b cached")
	// The blob of the cache is only looked at when the bundle lacks it.
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	damage(filepath.Join(entries, "[0-9a-f]*"), "a cached, a making, a made, b cached")
}

func TestBuildFailsWhole(t *testing.T) {
	y := newYard(t)
	before := y.mustBuild(t, []recipe{fileRecipe("a", "1")}).Version()
	broken := recipes()[3]
	broken.group = bundle.Core
	for name, c := range map[string]struct {
		recipe recipe
		want   string
	}{
		"does not compile": {broken, "undefined: undefinedFunction"},
		"not in the tree":  {own("muster-none", "./cmd/muster-none"), "muster-none: find what it is made from"},
		"missing tool": {
			recipe{name: "x", version: "1", makers: []maker{testMaker{need: []tool{{command: "no-such-tool", debian: "no-such-package"}}}}, group: bundle.Core},
			"x needs no-such-tool, which is not installed: apt-get install no-such-package",
		},
		"missing library": {
			recipe{name: "x", version: "1", makers: []maker{testMaker{need: []tool{{pkgConfig: "nosuchlib", debian: "libno-dev"}}}}, group: bundle.Core},
			"x needs nosuchlib, which is not installed: apt-get install libno-dev",
		},
		"no space": {
			recipe{name: "x", version: "1", makers: []maker{testMaker{}}, group: bundle.Core, diskMiB: 1 << 40},
			"takes up to 1099511627776 MiB",
		},
		"makes nothing": {
			recipe{name: "x", version: "1", makers: []maker{testMaker{do: func(context.Context, string) error { return nil }}}, group: bundle.Core},
			"0 files",
		},
	} {
		_, err := y.build(t, []recipe{fileRecipe("a", "2"), c.recipe})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", name, err, c.want)
		}
		b, err := bundle.Open(y.options.Out)
		if err != nil || b.Version() != before {
			t.Errorf("%s: the bundle has changed: %v", name, err)
		}
		left, err := os.ReadDir(filepath.Join(y.options.Cache, "tmp"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", name, left, err)
		}
	}
}

func TestBuildEndsWithItsContext(t *testing.T) {
	y := newYard(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by hand")
	// A command that has started another one, as go does with compilers.
	pidFile := filepath.Join(t.TempDir(), "pid")
	slow := recipe{name: "slow", version: "1", group: bundle.Core, makers: []maker{testMaker{do: func(ctx context.Context, dir string) error {
		go func() {
			waitUntil(t, "the command has started another", func() bool { return len(readText(pidFile)) > 0 })
			cancel(stopped)
		}()
		_, err := (&workshop{}).output(ctx, nil, dir, "sh", "-c", "sleep 60 & echo $! > "+pidFile+"; wait")
		return err
	}}}}
	_, err := buildAll(ctx, y.options, []recipe{fileRecipe("a", "1"), slow})
	if !errors.Is(err, stopped) {
		t.Errorf("got %v, want the cause", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(readText(pidFile)))
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "what the command had started is gone", func() bool {
		state := statusField(pid, "State")
		return state == "" || strings.HasPrefix(state, "Z")
	})
	if _, err := bundle.Open(y.options.Out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a bundle, although it was never finished: %v", err)
	}
	y.mustBuild(t, []recipe{fileRecipe("a", "1")})
	if y.told() != "a cached" {
		t.Errorf("what was finished is not in the cache: %s", y.told())
	}
}

func readText(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(raw)
}

func TestBuildNoticesASourceThatChangesMeanwhile(t *testing.T) {
	y := newYard(t)
	edit := testMaker{do: func(_ context.Context, dir string) error {
		y.write(t, "greeting/greeting.txt", "edited\n")
		return os.Remove(filepath.Join(dir, "hello"))
	}}
	hello := recipes()[2]
	hello.makers = append(hello.makers, edit, testMaker{in: "x"})
	if _, err := y.build(t, []recipe{hello}); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("got %v", err)
	}
	if entries, _ := filepath.Glob(filepath.Join(y.options.Cache, "artifacts", "hello", "*")); len(entries) > 0 {
		t.Errorf("kept in the cache: %v", entries)
	}
}

func TestBuildRefusesAForeignDirectory(t *testing.T) {
	y := newYard(t)
	if err := errors.Join(os.MkdirAll(y.options.Out, 0o755), os.WriteFile(filepath.Join(y.options.Out, "thesis.txt"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := y.build(t, []recipe{fileRecipe("a", "1")}); err == nil || !strings.Contains(err.Error(), "holds thesis.txt and is no bundle") {
		t.Errorf("got %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	y := newYard(t)
	for _, text := range []string{"1", "2", "3", "4", "5", "1"} {
		y.mustBuild(t, []recipe{fileRecipe("a", text)})
	}
	entries, err := os.ReadDir(filepath.Join(y.options.Cache, "artifacts", "a"))
	if err != nil || len(entries) != keepEntries {
		t.Errorf("%d entries, %v; want %d", len(entries), err, keepEntries)
	}
	y.mustBuild(t, []recipe{fileRecipe("a", "5")})
	if y.told() != "a cached" {
		t.Errorf("a recent one was removed: %s", y.told())
	}
}

func TestLock(t *testing.T) {
	c := cache{t.TempDir()}
	unlock, err := c.lock(t.Context(), "a", func() { t.Error("waits for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.lock(ctx, "a", cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("taken lock, ended wait: %v", err)
	}
	waited := make(chan error)
	go func() {
		unlock2, err := c.lock(t.Context(), "a", unlock)
		if err == nil {
			unlock2()
		}
		waited <- err
	}()
	if err := <-waited; err != nil {
		t.Errorf("lock that gets free: %v", err)
	}
}

func TestCheckReproducible(t *testing.T) {
	y := newYard(t)
	clock := recipe{name: "clock", version: "1", group: bundle.Core, license: "MIT", makers: []maker{testMaker{do: func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "now"), []byte(time.Now().String()), 0o644)
	}}}}
	all := []recipe{recipes()[0], recipes()[1], clock}
	repeats, err := checkAll(t.Context(), y.options, names(all), all)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range repeats {
		if same := r.First == r.Second; same != (r.Artifact != "clock") || len(r.First) != 64 {
			t.Errorf("%s/%s: %s and %s", r.Artifact, r.File, r.First, r.Second)
		}
	}
	if len(repeats) != 3 {
		t.Errorf("got %v, want three files", repeats)
	}
}

func TestFindSource(t *testing.T) {
	y := newYard(t)
	t.Chdir(filepath.Join(y.options.Source, "bundle", "modules", "tiny"))
	if got, err := findSource(); err != nil || got != y.options.Source {
		t.Errorf("from a module in the tree: %s, %v", got, err)
	}
	t.Chdir(t.TempDir())
	if _, err := findSource(); err == nil || !strings.Contains(err.Error(), "run this inside the tree") {
		t.Errorf("outside: %v", err)
	}
}

func TestOptionsRefuseAnUnknownGroup(t *testing.T) {
	if _, err := Build(t.Context(), Options{Groups: []string{"cores"}}); err == nil || !strings.Contains(err.Error(), `group "cores"`) {
		t.Errorf("got %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// workshop is what makers work with: places, tools and their versions.
type workshop struct {
	source  string // root of muster's source tree
	cache   string
	goCache string
	client  *http.Client

	goVersion string // such as go1.26.8
	ccVersion string // first line of `gcc --version`; empty without gcc
}

func newWorkshop(ctx context.Context, o Options) (*workshop, error) {
	w := &workshop{source: o.Source, cache: o.Cache, goCache: o.GoCache, client: o.Client}
	// Which tools are needed is known later, and depends on what is cached.
	if _, err := exec.LookPath("go"); err == nil {
		version, err := w.output(ctx, w.goEnv(false), w.source, "go", "env", "GOVERSION")
		if err != nil {
			return nil, err
		}
		w.goVersion = strings.TrimSpace(version)
	}
	if _, err := exec.LookPath("gcc"); err == nil {
		cc, err := w.output(ctx, nil, w.source, "gcc", "--version")
		if err != nil {
			return nil, err
		}
		w.ccVersion, _, _ = strings.Cut(cc, "\n")
	}
	return w, nil
}

// goEnv is what a Go build sees beside the user's own environment, which
// decides only where modules come from. Everything that changes the result is
// set here, so that the user's `go env -w` cannot.
func (w *workshop) goEnv(cgo bool) []string {
	env := []string{"GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GODEBUG=", "GOFIPS140=off", "GOOS=linux", "CGO_ENABLED=0"}
	if cgo {
		env[len(env)-1] = "CGO_ENABLED=1"
		env = append(env, "CC=gcc", "CGO_CFLAGS=-O2", "CGO_LDFLAGS=", "CGO_CPPFLAGS=")
	}
	if w.goCache != "" {
		env = append(env, "GOCACHE="+w.goCache)
	}
	return env
}

// lastLines is how much of a failed command's output its error carries: a
// compiler says what is wrong last.
const lastLines = 20

// killAfter is how long a command whose context ended may take to go.
const killAfter = 5 * time.Second

// output runs a command in dir and returns what it printed. It ends, with all
// that it started, when ctx does.
func (w *workshop) output(ctx context.Context, env []string, dir, name string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errOut
	cmd.Env = append(os.Environ(), env...)
	// The go command starts compilers; they go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("run %s in %s: %w%s", strings.Join(append([]string{name}, args...), " "), dir, err, tail(errOut.String()))
	}
	return out.String(), nil
}

func tail(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return ":\n" + strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}

// temp makes an empty directory in the cache: on the same disk as the results,
// and never in a small /tmp.
func (w *workshop) temp() (dir string, remove func(), err error) {
	parent := filepath.Join(w.cache, "tmp")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, fmt.Errorf("make a place to build in: %w", err)
	}
	dir, err = os.MkdirTemp(parent, "")
	if err != nil {
		return "", nil, fmt.Errorf("make a place to build in: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// tool is something that has to be installed on the computer that builds.
type tool struct {
	command   string // found in PATH; or
	pkgConfig string // known to pkg-config
	debian    string // the Debian package that has it
}

// The tools that makers need.
func goTool() tool    { return tool{command: "go", debian: "golang (1.26 or newer)"} }
func ccTools() []tool { return []tool{{command: "gcc", debian: "gcc libc6-dev"}} }
func debTools() []tool {
	return []tool{{command: "apt-get", debian: "apt"}, {command: "dpkg-deb", debian: "dpkg"}}
}

// Packages are the Debian packages that building every artifact needs, beside
// Go itself.
func Packages() []string {
	return []string{"gcc", "libc6-dev", "libseccomp-dev", "pkg-config"}
}

// missing returns an error that names all tools of recipes that are not here.
func (w *workshop) missing(ctx context.Context, recipes []recipe) error {
	var errs []error
	seen := map[tool]bool{}
	for _, r := range recipes {
		for _, t := range r.tools() {
			if seen[t] {
				continue
			}
			seen[t] = true
			if !w.has(ctx, t) {
				errs = append(errs, fmt.Errorf("%s needs %s%s, which is not installed: apt-get install %s", r.name, t.command, t.pkgConfig, t.debian))
			}
		}
	}
	return errors.Join(errs...)
}

func (w *workshop) has(ctx context.Context, t tool) bool {
	if t.pkgConfig == "" {
		_, err := exec.LookPath(t.command)
		return err == nil
	}
	// Without pkg-config itself the library cannot be found either, so both
	// failures mean the same to whoever has to install something.
	_, err := w.output(ctx, nil, w.source, "pkg-config", "--exists", t.pkgConfig)
	return err == nil
}

// space returns an error if the disks of the cache cannot take the recipes.
func (w *workshop) space(recipes []recipe) error {
	var need int64
	for _, r := range recipes {
		need += r.diskMiB
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(w.cache, &disk); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", w.cache, err)
	}
	free := int64(disk.Bavail) * disk.Bsize >> 20
	if free < need {
		return fmt.Errorf("building %s takes up to %d MiB with Go's build cache, and the disk of %s has %d MiB free: free some, or set XDG_CACHE_HOME to a place on another disk",
			strings.Join(names(recipes), " "), need, w.cache, free)
	}
	return nil
}

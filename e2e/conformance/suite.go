// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/e2e/program"
)

// architecture of the lab's machines is that of this computer.
const architecture = runtime.GOARCH

// suite is what was built from the module of the tests, in a directory of the
// cache that is named after all it was built from.
type suite struct {
	key string
	dir string
}

func (s suite) program() string { return filepath.Join(s.dir, "e2e.test") }
func (s suite) images() string  { return filepath.Join(s.dir, "images.tar") }

// suiteRecipe changes when buildSuite does something else.
const suiteRecipe = "1"

// kubernetes is the version of the tests; a test compares it with suite/go.mod.
const kubernetes = "1.36.3"

const (
	testPackage   = "k8s.io/kubernetes/test/e2e"
	imagePackages = "k8s.io/kubernetes/test/images/"
)

// linkerFlags set the version that the tests take themselves for.
func linkerFlags() string {
	flags := []string{"-s", "-w", "-buildid="}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags, "-X", pkg+".gitVersion=v"+kubernetes, "-X", pkg+".gitMajor=1", "-X", pkg+".gitMinor=36")
	}
	return strings.Join(flags, " ")
}

// openSuite finds the tests in the cache, or builds them, which takes minutes.
// module is the folder of suite/go.mod.
func openSuite(ctx context.Context, cache, module string, say func(string, ...any)) (suite, error) {
	key, err := suiteKey(ctx, module)
	if err != nil {
		return suite{}, err
	}
	s := suite{key: key, dir: filepath.Join(cache, "suite-"+key)}
	now := time.Now()
	if err := os.Chtimes(s.dir, now, now); err == nil {
		return s, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return suite{}, err
	}
	say("building Kubernetes' tests: on two cores it takes ten minutes, once")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return suite{}, fmt.Errorf("make the cache: %w", err)
	}
	half, err := os.MkdirTemp(cache, ".suite-")
	if err != nil {
		return suite{}, fmt.Errorf("make a place for the tests: %w", err)
	}
	defer os.RemoveAll(half)
	if err := buildSuite(ctx, suite{dir: half}, module); err != nil {
		return suite{}, fmt.Errorf("build Kubernetes' tests: %w", err)
	}
	if err := os.Rename(half, s.dir); err != nil {
		return suite{}, fmt.Errorf("keep Kubernetes' tests: %w", err)
	}
	return s, prune(cache, "suite-*", 2)
}

func suiteKey(ctx context.Context, module string) (string, error) {
	version, err := program.Output(exec.CommandContext(ctx, "go", "env", "GOVERSION"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%q\n", suiteRecipe, version, linkerFlags(), rootScript, rootPackages())
	fmt.Fprintf(h, "%v\n", imageConfigs())
	for _, file := range []string{"go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join(module, file))
		if err != nil {
			return "", fmt.Errorf("read the module of the tests: %w", err)
		}
		fmt.Fprintf(h, "%s %x\n", file, sha256.Sum256(raw))
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// buildSuite fills the directory of s. The programs of images are static: what
// libraries their root has is none of their business.
func buildSuite(ctx context.Context, s suite, module string) error {
	work, err := os.MkdirTemp(s.dir, "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	goTool := func(env []string, args ...string) error {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), append(env, "GOFLAGS=-trimpath -buildvcs=false", "GOWORK=off")...)
		_, err := program.Output(cmd)
		return err
	}
	if err := goTool(nil, "test", "-c", "-ldflags="+linkerFlags(), "-o", s.program(), testPackage); err != nil {
		return err
	}
	for _, program := range []string{"agnhost", "regression-issue-74839"} {
		err := goTool([]string{"CGO_ENABLED=0"}, "build", "-ldflags="+linkerFlags(), "-o", filepath.Join(work, program), imagePackages+program)
		if err != nil {
			return err
		}
	}
	if err := copyCertificates(ctx, module, work); err != nil {
		return err
	}
	names, err := s.imageNames(ctx)
	if err != nil {
		return err
	}
	root := filepath.Join(work, "root.tar")
	if err := makeRoot(ctx, work, root); err != nil {
		return fmt.Errorf("make the root of the images: %w", err)
	}
	return makeImages(root, names, s.images())
}

// copyCertificates takes the certificate that agnhost serves TLS with, which lies
// beside its source.
func copyCertificates(ctx context.Context, module, to string) error {
	find := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", imagePackages+"agnhost")
	find.Dir = module
	dir, err := program.Output(find)
	if err != nil {
		return err
	}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "porter", name))
		if err != nil {
			return fmt.Errorf("read agnhost's certificate: %w", err)
		}
		if err := os.WriteFile(filepath.Join(to, name), raw, 0o644); err != nil {
			return fmt.Errorf("copy agnhost's certificate: %w", err)
		}
	}
	return nil
}

// imageNames asks the tests what images their pods want.
func (s suite) imageNames(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, s.program(), "--list-images")
	// The list does not depend on who asks.
	cmd.Env = []string{"HOME=" + s.dir}
	out, err := program.Output(cmd)
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	return names, nil
}

// prune removes all but the last used entries.
func prune(dir, pattern string, keep int) error {
	entries, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	for _, e := range entries {
		if info, err := os.Stat(e); err == nil {
			used[e] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, e := range entries[min(keep, len(entries)):] {
		if err := os.RemoveAll(e); err != nil {
			return fmt.Errorf("remove an old entry of the cache: %w", err)
		}
	}
	return nil
}

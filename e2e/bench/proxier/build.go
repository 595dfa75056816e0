// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	kubernetes "github.com/muster-project/muster/bundle/build"
	"github.com/muster-project/muster/e2e/program"
)

const (
	module = "github.com/muster-project/muster"
	// kubeModule pins everything that kube-proxy is made of.
	kubeModule = module + "/bundle/modules/kubernetes-1.36"
)

// build makes the programs from the source tree around the working directory:
// dir/muster for the lab, and dir/send for the machine.
func build(ctx context.Context, dir string) error {
	root, err := program.Output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}"))
	if err != nil {
		return err
	}
	top, send := strings.TrimSpace(string(root)), filepath.Join(dir, "send")
	inKubernetes := filepath.Join(top, strings.TrimPrefix(kubeModule, module+"/"))
	// As Kubernetes' own release is built.
	var version []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		version = append(version, "-X "+pkg+".gitVersion=v"+kubernetes.Kubernetes)
	}
	for _, p := range []struct{ dir, result, pkg, link string }{
		{top, filepath.Join(dir, "muster"), module + "/cmd/muster", ""},
		{top, filepath.Join(send, "bench"), module + "/e2e/bench/proxier", ""},
		{top, filepath.Join(send, "muster-proxier"), module + "/cmd/muster-proxier", ""},
		{inKubernetes, filepath.Join(send, "kube-proxy"), "k8s.io/kubernetes/cmd/kube-proxy", strings.Join(version, " ")},
	} {
		command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w "+p.link, "-o", p.result, p.pkg)
		command.Dir = p.dir
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if _, err := program.Output(command); err != nil {
			return err
		}
	}
	return takeStrace(ctx, filepath.Join(send, "strace"))
}

// takeStrace copies this computer's strace with its libraries: the machine
// has none. Without it system calls are not counted.
func takeStrace(ctx context.Context, dir string) error {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil //nolint:nilerr // the report says that it was not there
	}
	libraries, err := program.Output(exec.CommandContext(ctx, "ldd", strace))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{"strace": strace}
	for path := range strings.FieldsSeq(string(libraries)) {
		if !strings.HasPrefix(path, "/") {
			continue
		}
		name := filepath.Base(path)
		if strings.HasPrefix(name, "ld-linux") {
			name = "loader"
		}
		files[name] = path
	}
	for name, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("copy strace: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			return fmt.Errorf("copy strace: %w", err)
		}
	}
	return nil
}

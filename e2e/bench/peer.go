// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/e2e/lab"
	"github.com/muster-project/muster/e2e/program"
)

// Units and settings as the packages of Kubernetes and containerd bring them
// and https://kubernetes.io/docs/setup/production-environment/ has them.
//
//go:embed files
var files embed.FS

// ignored are the checks of kubeadm that a lab machine cannot pass: it has one
// CPU, and its kernel has no configuration to look at.
var ignored = []string{"NumCPU", "SystemVerification"}

// start has a prepared machine's services up, as after the packages'
// installation. The kubelet restarts until kubeadm has configured it.
const start = `set -e
sysctl -q --load /etc/sysctl.d/k8s.conf
systemctl daemon-reload
systemctl -q enable --now containerd kubelet
ctr version >/dev/null`

// peerRun prepares both machines, then has kubeadm do the same as musterRun:
// as far as it goes, which is not to a pod network and answering DNS.
func (b *bench) peerRun(ctx context.Context, l *lab.Lab) (peerRun, error) {
	var r peerRun
	var err error
	if r.prepared, err = b.preparePeer(ctx, l, controlPlane, func(string) bool { return true }); err != nil {
		return r, err
	}
	ofWorkers := func(artifact string) bool { return artifact == "peer-kube-proxy" || artifact == "peer-pause" }
	if _, err = b.preparePeer(ctx, l, worker, ofWorkers); err != nil {
		return r, err
	}
	checks := " --ignore-preflight-errors=" + strings.Join(ignored, ",")
	on := func(machine, what, command string) (cost, error) {
		return b.timed(ctx, l, machine, what, func(ctx context.Context) error {
			_, err := l.Run(ctx, machine, command)
			return err
		})
	}
	r.init, err = on(controlPlane, "kubeadm init", "kubeadm init --pod-network-cidr=10.244.0.0/16"+
		" --kubernetes-version=v"+b.bundle.Kubernetes()+checks)
	if err != nil {
		return r, err
	}
	join, err := l.Run(ctx, controlPlane, "KUBECONFIG=/etc/kubernetes/admin.conf kubeadm token create --print-join-command")
	if err != nil {
		return r, err
	}
	r.join, err = on(worker, "kubeadm join", strings.TrimSpace(join)+checks)
	return r, err
}

// preparePeer does what comes before kubeadm's clock starts.
func (b *bench) preparePeer(ctx context.Context, l *lab.Lab, machine string, wanted func(artifact string) bool) (preparation, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.within, fmt.Errorf("prepare %s for kubeadm: not within %s (-within)", machine, b.within))
	defer cancel()
	var p preparation
	begin := time.Now()
	if err := copyTo(ctx, l, machine, b.programs); err != nil {
		return p, fmt.Errorf("copy programs to %s: %w", machine, err)
	}
	p.copyPrograms = time.Since(begin)
	if _, err := l.Run(ctx, machine, start); err != nil {
		return p, err
	}
	for _, a := range b.bundle.Artifacts() {
		if a.Group != bundle.Peer || a.Kind != bundle.Image || !wanted(a.Name) {
			continue
		}
		if err := b.load(ctx, l, machine, a, &p); err != nil {
			return p, fmt.Errorf("load %s on %s: %w", a.Ref, machine, err)
		}
	}
	b.say("%s: programs copied in %.1fs, images in %.1fs and imported in %.1fs", machine,
		p.copyPrograms.Seconds(), p.copyImages.Seconds(), p.importImages.Seconds())
	return p, nil
}

// imageFile is where an image is copied to before it is imported.
const imageFile = "/root/image.tar"

func (b *bench) load(ctx context.Context, l *lab.Lab, machine string, image bundle.Artifact, p *preparation) error {
	begin := time.Now()
	err := copyTo(ctx, l, machine, func(a *archive) error { return a.fromBundle(b.bundle, image.Files[0], imageFile) })
	if err != nil {
		return err
	}
	copied := time.Now()
	if _, err := l.Run(ctx, machine, "ctr -n k8s.io images import "+imageFile); err != nil {
		return err
	}
	p.copyImages += copied.Sub(begin)
	p.importImages += time.Since(copied)
	_, err = l.Run(ctx, machine, "rm "+imageFile)
	return err
}

// programs are everything on a machine but images, in the places of the
// distributions' packages.
func (b *bench) programs(a *archive) error {
	for name, dir := range map[string]string{
		"containerd": "/usr/local/bin", "containerd-shim-runc-v2": "/usr/local/bin", "ctr": "/usr/local/bin", "runc": "/usr/local/bin",
		"cni-plugins": "/opt/cni/bin", "kubernetes": "/usr/bin", "peer-kubeadm": "/usr/bin",
	} {
		artifact, err := b.bundle.Lookup(name)
		if err != nil {
			return err
		}
		for _, f := range artifact.Files {
			if err := a.fromBundle(b.bundle, f, dir+"/"+f.Name); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"kubelet", "kubectl"} {
		if err := a.link("/usr/bin/"+name, "kubernetes"); err != nil {
			return err
		}
	}
	for name, path := range map[string]string{
		"kubelet.service":    "/etc/systemd/system/kubelet.service",
		"10-kubeadm.conf":    "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
		"containerd.service": "/etc/systemd/system/containerd.service",
		"containerd.toml":    "/etc/containerd/config.toml",
		"sysctl.conf":        "/etc/sysctl.d/k8s.conf",
	} {
		data, err := files.ReadFile("files/" + name)
		if err != nil {
			return err
		}
		if err := a.text(path, data); err != nil {
			return err
		}
	}
	return nil
}

// copyTo unpacks an archive on a machine while it is being written.
func copyTo(ctx context.Context, l *lab.Lab, machine string, write func(*archive) error) error {
	ssh, err := l.SSH(machine)
	if err != nil {
		return err
	}
	in, out := io.Pipe()
	go func() {
		a := newArchive(out)
		err := write(a)
		if err == nil {
			err = a.close()
		}
		out.CloseWithError(err) //nolint:errcheck // never fails
	}()
	cmd := exec.CommandContext(ctx, ssh[0], append(ssh[1:], "tar", "-x", "-C", "/")...)
	cmd.Stdin = in
	_, err = program.Output(cmd)
	in.CloseWithError(err) //nolint:errcheck // never fails; it ends the writer if ssh ended first
	return err
}

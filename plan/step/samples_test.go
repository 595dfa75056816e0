// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

type world = *steptest.World

var errSilent = errors.New("no answer")

// samples is at least one step of every kind.
func samples() []sample {
	return slices.Concat(fileSamples(), systemSamples(), keySamples(), programSamples(), apiSamples(), networkSamples())
}

// wrongAttributes are the corruptions of anything with a mode and an owner.
func wrongAttributes(name string, mode fs.FileMode, more map[string]func(world)) map[string]func(world) {
	all := map[string]func(world){
		"mode":  func(w world) { w.Chmod(name, mode^0o044) },
		"owner": func(w world) { w.Chown(name) },
		"gone":  func(w world) { w.Remove(name) },
	}
	for what, corrupt := range more {
		all[what] = corrupt
	}
	return all
}

// loop makes everything beside a path impossible to look at.
func loop(name string) func(world) { return func(w world) { w.Unreadable(path.Dir(name)) } }

func fileSamples() []sample {
	const conf, dir, link = "/etc/app/app.conf", "/var/lib/app", "/usr/local/bin/app"
	return []sample{
		{
			kind: "file",
			make: func(w world) step.Step {
				w.Users.Add("app")
				return step.File{Path: conf, Mode: 0o640, Owner: "app", Data: "port: 1\n"}
			},
			corrupt: wrongAttributes(conf, 0o640, map[string]func(world){
				"bytes":     func(w world) { writeAs(w, conf, "app", "port: 2\n") },
				"truncated": func(w world) { truncate(w, conf) },
				"a link to the same bytes": func(w world) {
					writeAs(w, conf+".other", "app", "port: 1\n")
					relink(w, conf, conf+".other")
				},
			}),
			silence: loop(conf),
		},
		{
			kind:    "directory",
			make:    func(world) step.Step { return step.Directory{Path: dir, Mode: 0o700, Whole: true} },
			corrupt: wrongAttributes(dir, 0o700, nil),
			silence: loop(dir),
		},
		{
			kind: "link",
			make: func(w world) step.Step {
				relink(w, link, "/opt/old/app")
				return step.Link{Path: link, Target: "/opt/muster/bin/app"}
			},
			corrupt: map[string]func(world){
				"gone":   func(w world) { w.Remove(link) },
				"target": func(w world) { relink(w, link, "/opt/other/app") },
				"a file": func(w world) { w.Write(link, 0o755, "#!/bin/sh\n") },
				"a cut attempt beside it": func(w world) {
					w.Remove(link)
					w.Write(step.Temporary(link), 0o644, "")
				},
			},
			silence: loop(link),
		},
		{
			kind:    "absent",
			make:    func(w world) step.Step { w.Write(conf, 0o644, "x"); return step.Absent{Path: conf} },
			corrupt: map[string]func(world){"a dead link": func(w world) { relink(w, conf, "/nowhere") }},
			silence: loop(conf),
		},
	}
}

func systemSamples() []sample {
	const sysctl = "/proc/sys/net/ipv4/ip_forward"
	return []sample{
		{
			kind: "sysctl",
			make: func(w world) step.Step {
				w.Write(sysctl, 0o644, "0\n")
				return step.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"}
			},
			corrupt: map[string]func(world){"value": func(w world) { w.Write(sysctl, 0o644, "2\n") }},
			silence: loop(sysctl),
		},
		{
			kind: "module",
			make: func(w world) step.Step {
				w.Write("/proc/filesystems", 0o444, "nodev\tproc\n")
				w.Exec.Modules["overlay"] = "/proc/filesystems:overlay"
				return step.Module{Name: "overlay", Probe: "/proc/filesystems:overlay"}
			},
			corrupt: map[string]func(world){
				"word": func(w world) { w.Write("/proc/filesystems", 0o444, "nodev\tproc\n") },
				"gone": func(w world) { w.Remove("/proc/filesystems") },
			},
			silence: loop("/proc/filesystems"),
		},
		{
			kind:    "user",
			make:    func(world) step.Step { return step.User{Name: "etcd"} },
			silence: func(w world) { w.Users.Fail = errSilent },
		},
		{
			kind: "unit",
			make: func(w world) step.Step {
				w.Write("/etc/systemd/system/app.service", 0o644, "[Service]\nExecStart=/opt/muster/bin/app\n")
				w.Write("/etc/app.conf", 0o644, "port: 1\n")
				return step.Unit{Name: "app.service", Inputs: []string{"/etc/app.conf"}}
			},
			corrupt: map[string]func(world){
				"stopped":    func(w world) { w.Units.Stop("app.service") },
				"disabled":   func(w world) { w.Units.Disable("app.service") },
				"input":      func(w world) { w.Write("/etc/app.conf", 0o644, "port: 2\n") },
				"unit file":  func(w world) { w.Write("/etc/systemd/system/app.service", 0o644, "[Service]\nExecStart=/bin/false\n") },
				"stamp gone": func(w world) { w.Remove("/run/muster/units/app.service") },
			},
			silence: func(w world) { w.Units.Fail = errSilent },
		},
	}
}

const pkiDir = "/etc/kubernetes/pki"

func keySamples() []sample {
	const caCert, caKey, saKey, saPub = pkiDir + "/ca.crt", pkiDir + "/ca.key", pkiDir + "/sa.key", pkiDir + "/sa.pub"
	request := pki.Scheduler()
	cert, key := pkiDir+"/"+request.CertFile(), pkiDir+"/"+request.KeyFile()
	return []sample{
		{
			kind: "authority",
			make: func(world) step.Step { return step.Authority{CA: pki.Kubernetes, CertPath: caCert, KeyPath: caKey} },
			corrupt: map[string]func(world){
				"key mode":              func(w world) { w.Chmod(caKey, 0o640) },
				"key owner":             func(w world) { w.Chown(caKey) },
				"certificate mode":      func(w world) { w.Chmod(caCert, 0o600) },
				"certificate truncated": func(w world) { truncate(w, caCert) },
				"key truncated":         func(w world) { truncate(w, caKey) },
				"key lost":              func(w world) { w.Remove(caKey) },
				"other key":             func(w world) { otherKey(w, caKey) },
				"expired":               func(w world) { w.Clock = w.Clock.AddDate(11, 0, 0) },
				"only the key was made": func(w world) { w.Remove(caCert) },
			},
			hopeless: []string{"certificate truncated", "key truncated", "key lost", "other key", "expired"},
			silence:  loop(caKey),
		},
		{
			kind: "signing-key",
			make: func(world) step.Step { return step.SigningKey{PrivatePath: saKey, PublicPath: saPub} },
			corrupt: map[string]func(world){
				"private mode":      func(w world) { w.Chmod(saKey, 0o644) },
				"private owner":     func(w world) { w.Chown(saKey) },
				"private truncated": func(w world) { truncate(w, saKey) },
				"public mode":       func(w world) { w.Chmod(saPub, 0o600) },
				"public truncated":  func(w world) { truncate(w, saPub) },
				"public gone":       func(w world) { w.Remove(saPub) },
				"other private":     func(w world) { otherKey(w, saKey) },
			},
			hopeless: []string{"private truncated"},
			silence:  loop(saKey),
		},
		{
			kind: "trust",
			make: func(world) step.Step { return step.Trust{CA: pki.Etcd, Path: caCert} },
			corrupt: wrongAttributes(caCert, 0o644, map[string]func(world){
				"truncated": func(w world) { truncate(w, caCert) },
				"other CA":  func(w world) { w.Operator.NewCA(pki.Etcd) },
			}),
			silence: func(w world) { w.Operator.Fail = errSilent },
		},
		{
			kind: "certificate",
			make: func(w world) step.Step {
				trust(w, caCert)
				return step.Certificate{Request: request, CertPath: cert, KeyPath: key, CAPath: caCert}
			},
			corrupt: map[string]func(world){
				"key mode":              func(w world) { w.Chmod(key, 0o644) },
				"key owner":             func(w world) { w.Chown(key) },
				"key truncated":         func(w world) { truncate(w, key) },
				"key gone":              func(w world) { w.Remove(key) },
				"other key":             func(w world) { otherKey(w, key) },
				"certificate mode":      func(w world) { w.Chmod(cert, 0o600) },
				"certificate truncated": func(w world) { truncate(w, cert) },
				"certificate gone":      func(w world) { w.Remove(cert) },
				"expired":               func(w world) { w.Clock = w.Clock.AddDate(2, 0, 0) },
				"about to expire":       func(w world) { w.Clock = w.Clock.AddDate(0, 9, 0) },
				"other CA": func(w world) {
					w.Operator.NewCA(pki.Kubernetes)
					trust(w, caCert)
				},
			},
			silence: loop(key),
		},
	}
}

func programSamples() []sample {
	const program, ctr, ref = "/opt/muster/bin/app", "/opt/muster/bin/ctr", "registry.k8s.io/pause:3.10"
	return []sample{
		{
			kind: "install",
			make: func(w world) step.Step {
				return step.Install{Path: program, Mode: 0o755, Blob: w.Operator.AddBlob("ELF and so on")}
			},
			corrupt: wrongAttributes(program, 0o755, map[string]func(world){
				"bytes":     func(w world) { w.Write(program, 0o755, "ELF and so oN") },
				"truncated": func(w world) { truncate(w, program) },
			}),
			silence: loop(program),
		},
		{
			kind: "image",
			make: func(w world) step.Step {
				w.Write(ctr, 0o755, "ELF")
				return step.Image{Ref: ref, Blob: w.Operator.AddBlob(ref + "\nlayers")}
			},
			corrupt: map[string]func(world){
				"collected":     func(w world) { delete(w.Exec.Images, ref) },
				"other archive": func(w world) { w.Write("/var/lib/muster/images/registry.k8s.io_pause_3.10", 0o644, "0123") },
				"stamp gone":    func(w world) { w.Remove("/var/lib/muster/images") },
			},
			silence: func(w world) { w.Exec.Fail = errSilent },
		},
		{
			kind: "healthy",
			make: func(w world) step.Step {
				w.Exec.Programs["etcd-health"] = func(context.Context, io.Reader, []string) (string, error) { return "", steptest.ExitError(1) }
				return step.Healthy{Argv: []string{"etcd-health"}, Unit: "etcd.service", Timeout: time.Minute}
			},
			fulfil: func(w world) {
				w.Exec.Programs["etcd-health"] = func(context.Context, io.Reader, []string) (string, error) { return "", nil }
			},
			silence: func(w world) { w.Exec.Fail = errSilent },
		},
	}
}

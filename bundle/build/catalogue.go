// SPDX-License-Identifier: Apache-2.0

package build

import (
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/version"
)

// Versions of what is not pinned by a go.mod, and of what is (a test compares).
const (
	containerdVersion = "2.4.2"
	runcVersion       = "1.5.2"
	cniVersion        = "1.9.1"
	flannelVersion    = "0.28.4"
	corednsVersion    = "1.15.0"
	pauseVersion      = "3.10"
)

// registry is the host part of image references. There is no such host: the
// images are imported on each host, and a node that lacks one must not go
// and ask a stranger for it.
const registry = "muster.local/"

// staticLicenses is what a statically linked C library adds: glibc and, in runc,
// libseccomp.
const staticLicenses = "LGPL-2.1-or-later"

// catalogue is every artifact that muster knows how to make. The order is that
// of building: what takes longest first.
func catalogue() []recipe {
	all := []recipe{
		kubernetes(),
		containerd(),
		{
			name: "containerd-shim-runc-v2", version: containerdVersion, group: bundle.Core, license: "Apache-2.0",
			module:  "github.com/containerd/containerd/v2@v" + containerdVersion,
			release: containerdRelease("bin/containerd-shim-runc-v2"),
			// Without gRPC a shim takes 10.7 MB of memory instead of 15.8, and
			// there is one per pod. It talks ttrpc.
			makers:  []maker{containerdBuild("no_grpc", "containerd-shim-runc-v2")},
			diskMiB: 100,
		},
		{
			name: "ctr", version: containerdVersion, group: bundle.Core, license: "Apache-2.0",
			module:  "github.com/containerd/containerd/v2@v" + containerdVersion,
			release: containerdRelease("bin/ctr"),
			makers:  []maker{containerdBuild("urfave_cli_no_docs", "ctr")},
			diskMiB: 200,
		},
		runc(),
		cniPlugins(),
		flannel(),
		coredns(),
		pause(),
		agnhost(),
		own("muster-node", "./cmd/muster-node"),
		own("muster-etcd", "./cmd/muster-etcd"),
		own("muster-proxier", "./cmd/muster-proxier"),
		proxierImage(),
	}
	return append(all, peers()...)
}

func kubernetes() recipe {
	return recipe{
		name: "kubernetes", version: Kubernetes, group: bundle.Core, license: "Apache-2.0",
		module:  "k8s.io/kubernetes@v" + Kubernetes,
		release: kubernetesRelease(),
		makers:  []maker{kubernetesBuild(program{"kubernetes", "."})},
		diskMiB: 5000,
	}
}

// kubernetesBuild builds from the Kubernetes module. Without the version the
// node would report a broken one. The date is that of the release, since the
// true one would change the file with each build; the commit is not known to
// a module.
func kubernetesBuild(programs ...program) goBuild {
	var set []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		set = append(set,
			pkg+".gitVersion=v"+Kubernetes, pkg+".gitMajor=1", pkg+".gitMinor=36", pkg+".gitTreeState=clean",
			pkg+".gitCommit=", pkg+".buildDate=2026-07-22T18:07:38Z")
	}
	return goBuild{dir: "bundle/modules/kubernetes-1.36", programs: programs, set: set}
}

func containerd() recipe {
	return recipe{
		name: "containerd", version: containerdVersion, group: bundle.Core, license: "Apache-2.0",
		module:  "github.com/containerd/containerd/v2@v" + containerdVersion,
		release: containerdRelease("bin/containerd"),
		makers:  []maker{containerdBuild("urfave_cli_no_docs", "containerd")},
		diskMiB: 1500,
	}
}

func containerdBuild(tag, name string) goBuild {
	return goBuild{
		dir:      "bundle/modules/containerd",
		programs: []program{{name, "github.com/containerd/containerd/v2/cmd/" + name}},
		tags:     []string{tag},
		set:      []string{"github.com/containerd/containerd/v2/version.Version=v" + containerdVersion},
	}
}

func runc() recipe {
	return recipe{
		name: "runc", version: runcVersion, group: bundle.Core, license: "Apache-2.0 AND " + staticLicenses,
		module:  "github.com/opencontainers/runc@v" + runcVersion,
		release: runcRelease(),
		makers: []maker{goBuild{
			dir:      "bundle/modules/runc",
			programs: []program{{"runc", "github.com/opencontainers/runc"}},
			// The kubelet's pods have seccomp profiles: without the tag none starts.
			tags:   []string{"seccomp", "urfave_cli_no_docs", "netgo", "osusergo"},
			static: true,
			needs:  []tool{{pkgConfig: "libseccomp", debian: "libseccomp-dev pkg-config"}},
		}},
		diskMiB: 400,
	}
}

func cniPlugins() recipe {
	const module = "github.com/containernetworking/plugins"
	var programs []program
	for _, p := range []string{"main/bridge", "main/loopback", "ipam/host-local", "meta/portmap", "meta/bandwidth", "meta/firewall"} {
		programs = append(programs, program{baseName(p), module + "/plugins/" + p})
	}
	return recipe{
		name: "cni-plugins", version: cniVersion, group: bundle.Core, license: "Apache-2.0",
		module:  module + "@v" + cniVersion,
		release: cniRelease(programs),
		makers: []maker{goBuild{
			dir: "bundle/modules/cni-plugins", programs: programs,
			set: []string{module + "/pkg/utils/buildversion.BuildVersion=v" + cniVersion},
		}},
		diskMiB: 400,
	}
}

func flannel() recipe {
	const module = "github.com/flannel-io/flannel"
	return recipe{
		name: "flannel", version: flannelVersion, group: bundle.Core, license: "Apache-2.0 AND " + staticLicenses,
		module:  module + "@v" + flannelVersion,
		release: flannelRelease(),
		makers: []maker{goBuild{
			dir:      "bundle/modules/flannel",
			programs: []program{{"flanneld", module}},
			// On amd64 its udp backend is C and cannot be left out.
			static: true,
			tags:   []string{"netgo", "osusergo"},
			set:    []string{module + "/pkg/version.Version=v" + flannelVersion},
		}},
		diskMiB: 1500,
	}
}

func coredns() recipe {
	return recipe{
		name: "coredns", version: corednsVersion, group: bundle.Core, license: "Apache-2.0",
		module:  "github.com/coredns/coredns@v" + corednsVersion,
		release: corednsRelease(),
		makers:  []maker{corednsBuild()},
		image:   corednsImage(registry + "coredns:" + corednsVersion),
		diskMiB: 2000,
	}
}

func corednsBuild() goBuild {
	return goBuild{dir: "bundle/modules/coredns", programs: []program{{"coredns", "github.com/coredns/coredns"}}}
}

// corednsImage runs as nobody in particular: containerd lets every process of a
// pod listen on ports below 1024.
func corednsImage(ref string) *image {
	return &image{
		Ref:    ref,
		Layers: []layer{{{Path: "/coredns", File: "coredns"}}},
		Config: v1.Config{Entrypoint: []string{"/coredns"}, User: "65532:65532", WorkingDir: "/"},
	}
}

func pause() recipe {
	return recipe{
		name: "pause", version: pauseVersion, group: bundle.Core, license: "Apache-2.0",
		module:  "github.com/muster-project/muster/bundle/modules/pause",
		makers:  []maker{pauseBuild()},
		image:   pauseImage(registry + "pause:" + pauseVersion),
		diskMiB: 1,
	}
}

func pauseBuild() cBuild { return cBuild{source: "bundle/modules/pause/pause.c", name: "pause"} }

func pauseImage(ref string) *image {
	return &image{
		Ref:    ref,
		Layers: []layer{{{Path: "/pause", File: "pause"}}},
		Config: v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"},
	}
}

// agnhost is the image of Kubernetes' own network tests, and the sample
// Deployment. The tests also run a shell and small tools in it.
func agnhost() recipe {
	return recipe{
		name: "agnhost", version: Kubernetes, group: bundle.Test, license: "Apache-2.0 AND GPL-2.0-only",
		module: "k8s.io/kubernetes/test/images/agnhost@v" + Kubernetes + " and busybox-static of Debian",
		makers: []maker{
			kubernetesBuild(program{"agnhost", "k8s.io/kubernetes/test/images/agnhost"}),
			debian{pkg: "busybox-static", path: "bin/busybox", name: "busybox"},
		},
		image: &image{
			Ref:    registry + "agnhost:" + Kubernetes,
			Layers: []layer{busyboxLayer(), {{Path: "/agnhost", File: "agnhost"}}},
			Config: v1.Config{
				Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, WorkingDir: "/",
				Env: []string{imagePath},
			},
		},
		diskMiB: 1000,
	}
}

// busyboxLayer is a root file system with a shell and the tools that tests call.
func busyboxLayer() layer {
	l := layer{
		{Path: "/bin/busybox", File: "busybox"},
		{Path: "/etc/passwd", Mode: 0o644, Text: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{Path: "/etc/group", Mode: 0o644, Text: "root:x:0:\nnobody:x:65534:\n"},
		{Path: "/root", Mode: 0o700},
		{Path: "/tmp", Mode: fs.ModeSticky | 0o777},
		{Path: "/var/tmp", Mode: fs.ModeSticky | 0o777},
	}
	for _, name := range []string{
		"awk", "base64", "cat", "chmod", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "find", "grep", "head",
		"hostname", "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mount", "mv", "nc", "netstat", "nslookup", "ping",
		"ping6", "printf", "ps", "pwd", "readlink", "rm", "route", "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat",
		"sync", "tail", "tar", "tee", "telnet", "test", "time", "timeout", "top", "touch", "tr", "traceroute", "true", "umount",
		"uname", "uniq", "vi", "wc", "wget", "which", "whoami", "xargs", "yes",
	} {
		l = append(l, entry{Path: "/bin/" + name, Link: "busybox"})
	}
	return l
}

// own is a program of muster itself. It gets the version of the muster that
// builds it.
func own(name, pkg string) recipe {
	const module = "github.com/muster-project/muster"
	return recipe{
		name: name, version: version.Version, group: bundle.Core, license: "Apache-2.0", own: true,
		module: module + "@v" + version.Version,
		makers: []maker{goBuild{
			dir: ".", programs: []program{{name, pkg}},
			set: []string{module + "/version.Version=" + version.Version},
		}},
		diskMiB: 800,
	}
}

// proxierImage is muster-proxier for clusters that muster did not make
// (deploy/). It is the one program: it starts no others.
func proxierImage() recipe {
	r := own("muster-proxier", "./cmd/muster-proxier")
	r.name = "muster-proxier-image"
	r.image = &image{
		Ref:    registry + r.name + ":" + r.version,
		Layers: []layer{{{Path: "/muster-proxier", File: "muster-proxier"}}},
		Config: v1.Config{Entrypoint: []string{"/muster-proxier"}},
	}
	return r
}

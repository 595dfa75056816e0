// SPDX-License-Identifier: Apache-2.0

package build

import (
	"path"
	"runtime"
)

// release says which files a project releases, and under what names below
// Options.From. docs/bundle.md shows the whole layout.
type release struct {
	files []releaseFile
}

// releaseFile is one downloaded file and the programs in it.
type releaseFile struct {
	path     string            // below Options.From
	checksum string            // of the file with its checksum, below Options.From
	members  map[string]string // archive member -> program; nil if the file is a program
	program  string            // its name, if the file is a program
}

func baseName(p string) string { return path.Base(p) }

// kubernetesRelease is laid out as Kubernetes' release server is.
func kubernetesRelease() *release {
	var r release
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"} {
		p := "v" + Kubernetes + "/bin/linux/" + runtime.GOARCH + "/" + name
		r.files = append(r.files, releaseFile{path: p, checksum: p + ".sha256", program: name})
	}
	return &r
}

// archived is a release of one .tar.gz.
func archived(p, checksum string, members map[string]string) *release {
	return &release{files: []releaseFile{{path: p, checksum: checksum, members: members}}}
}

func containerdRelease(member string) *release {
	p := "containerd/v" + containerdVersion + "/containerd-" + containerdVersion + "-linux-" + runtime.GOARCH + ".tar.gz"
	return archived(p, p+".sha256sum", map[string]string{member: baseName(member)})
}

func runcRelease() *release {
	dir := "runc/v" + runcVersion + "/"
	return &release{files: []releaseFile{{path: dir + "runc." + runtime.GOARCH, checksum: dir + "runc.sha256sum", program: "runc"}}}
}

func cniRelease(programs []program) *release {
	p := "cni-plugins/v" + cniVersion + "/cni-plugins-linux-" + runtime.GOARCH + "-v" + cniVersion + ".tgz"
	members := map[string]string{}
	for _, prog := range programs {
		members[prog.name] = prog.name
	}
	return archived(p, p+".sha256", members)
}

func flannelRelease() *release {
	p := "flannel/v" + flannelVersion + "/flannel-v" + flannelVersion + "-linux-" + runtime.GOARCH + ".tar.gz"
	return archived(p, p+".sha256", map[string]string{"flanneld": "flanneld"})
}

func corednsRelease() *release {
	p := "coredns/v" + corednsVersion + "/coredns_" + corednsVersion + "_linux_" + runtime.GOARCH + ".tgz"
	return archived(p, p+".sha256", map[string]string{"coredns": "coredns"})
}

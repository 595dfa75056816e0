// SPDX-License-Identifier: Apache-2.0

package build

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/muster-project/muster/bundle"
)

// etcdVersion is that of the peer's etcd. muster's own is part of muster-etcd.
const etcdVersion = "3.6.16"

// peers are what muster is measured against: kubeadm, and images of the names
// it asks for (`kubeadm config images list`). Names and tags are kubeadm's, as
// are the paths in the images; what is in them is built from the same modules
// as muster's own artifacts, so that a comparison is one of installers. The tags
// of CoreDNS and etcd are therefore not the versions inside.
func peers() []recipe {
	const registry = "registry.k8s.io/"
	kubernetes := func(name string) recipe {
		return recipe{
			name: "peer-" + name, version: Kubernetes, group: bundle.Peer, license: "Apache-2.0",
			module: "k8s.io/kubernetes@v" + Kubernetes,
			makers: []maker{kubernetesBuild(program{"kubernetes", "."})},
			image: &image{
				Ref: registry + name + ":v" + Kubernetes,
				Layers: []layer{
					{{Path: "/usr/local/bin/kubernetes", File: "kubernetes"}},
					{{Path: "/usr/local/bin/" + name, Link: "kubernetes"}},
				},
				Config: v1.Config{Entrypoint: []string{"/usr/local/bin/" + name}, Env: []string{imagePath}},
			},
			diskMiB: 5000,
		}
	}
	return []recipe{
		{
			name: "peer-kubeadm", version: Kubernetes, group: bundle.Peer, license: "Apache-2.0",
			module:  "k8s.io/kubernetes@v" + Kubernetes,
			makers:  []maker{kubernetesBuild(program{"kubeadm", "./peer"})},
			diskMiB: 5000,
		},
		kubernetes("kube-apiserver"),
		kubernetes("kube-controller-manager"),
		kubernetes("kube-scheduler"),
		peerProxy(registry + "kube-proxy:v" + Kubernetes),
		{
			name: "peer-etcd", version: etcdVersion, group: bundle.Peer, license: "Apache-2.0",
			module: "go.etcd.io/etcd/server/v3@v" + etcdVersion,
			makers: []maker{goBuild{dir: "bundle/modules/etcd", programs: []program{{"etcd", "go.etcd.io/etcd/server/v3"}}}},
			image: &image{
				Ref:    registry + "etcd:3.6.8-0",
				Layers: []layer{{{Path: "/usr/local/bin/etcd", File: "etcd"}, {Path: "/var/lib/etcd", Mode: 0o700}}},
				Config: v1.Config{Entrypoint: []string{"/usr/local/bin/etcd"}, Env: []string{imagePath}},
			},
			diskMiB: 700,
		},
		{
			name: "peer-coredns", version: corednsVersion, group: bundle.Peer, license: "Apache-2.0",
			module:  "github.com/coredns/coredns@v" + corednsVersion,
			makers:  []maker{corednsBuild()},
			image:   corednsImage(registry + "coredns/coredns:v1.14.2"),
			diskMiB: 2000,
		},
		{
			name: "peer-pause", version: pauseVersion, group: bundle.Peer, license: "Apache-2.0",
			module:  "github.com/muster-project/muster/bundle/modules/pause",
			makers:  []maker{pauseBuild()},
			image:   pauseImage(registry + "pause:3.10.2"),
			diskMiB: 1,
		},
	}
}

// imagePath is the PATH of the images.
const imagePath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// peerProxy is kube-proxy with the programs it runs.
func peerProxy(ref string) recipe {
	tools := layer{{Path: "/", Tree: "debian"}}
	// dpkg would link these when it configures the package.
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		tools = append(tools, entry{Path: "/usr/sbin/" + name, Link: "xtables-nft-multi"})
	}
	// The packages still have their files below these, on a merged /usr.
	return recipe{
		name: "peer-kube-proxy", version: Kubernetes, group: bundle.Peer, license: "Apache-2.0 AND GPL-2.0-or-later",
		module: "k8s.io/kubernetes@v" + Kubernetes + " and iptables, ipset, conntrack, kmod and nftables of Debian",
		makers: []maker{
			kubernetesBuild(program{"kube-proxy", "./peer"}),
			debianTree{pkgs: []string{"iptables", "ipset", "conntrack", "kmod", "nftables"}, name: "debian"},
		},
		image: &image{
			Ref:    ref,
			Layers: []layer{tools, {{Path: "/usr/local/bin/kube-proxy", File: "kube-proxy"}}},
			Config: v1.Config{Entrypoint: []string{"/usr/local/bin/kube-proxy"}, Env: []string{imagePath}},
		},
		diskMiB: 5000,
	}
}

// SPDX-License-Identifier: Apache-2.0

package templates

// A Setting is one kernel parameter and the reason for its value.
type Setting struct {
	Key   string // net.ipv4.ip_forward
	Value string
	// Optional settings exist only on some kernels; missing is not a fault.
	Optional bool
	Why      string
}

// Sysctl is the kernel's parameters.
type Sysctl struct {
	// IPv6 is set when pods have such addresses.
	IPv6 bool
}

// Settings lists the parameters, for whoever applies them one by one.
func (s Sysctl) Settings() []Setting {
	const (
		bridged = "pods of one host talk through a bridge, and the replies have to pass by IPVS all the same; there once br_netfilter is loaded"
		inotify = "one instance per container log and per watcher in a pod: the kernel's 128 end at about forty pods"
		kubelet = "the kubelet sets this itself when it finds another value, and nobody would put it back (k8s.io/component-helpers/node/util/sysctl)"
	)
	settings := []Setting{{Key: "net.ipv4.ip_forward", Value: "1", Why: "pods are routed"}}
	if s.IPv6 {
		settings = append(settings, Setting{Key: "net.ipv6.conf.all.forwarding", Value: "1", Why: "pods are routed"})
	}
	return append(settings,
		Setting{Key: "net.bridge.bridge-nf-call-iptables", Value: "1", Optional: true, Why: bridged},
		Setting{Key: "net.bridge.bridge-nf-call-ip6tables", Value: "1", Optional: true, Why: bridged},
		Setting{Key: "fs.inotify.max_user_instances", Value: "8192", Why: inotify},
		Setting{Key: "fs.inotify.max_user_watches", Value: "524288", Why: inotify},
		Setting{Key: "vm.overcommit_memory", Value: "1", Why: kubelet},
		Setting{Key: "vm.panic_on_oom", Value: "0", Why: kubelet},
		Setting{Key: "kernel.panic", Value: "10", Why: kubelet},
		Setting{Key: "kernel.panic_on_oops", Value: "1", Why: kubelet},
		Setting{Key: "kernel.keys.root_maxkeys", Value: "1000000", Optional: true, Why: kubelet},
		Setting{Key: "kernel.keys.root_maxbytes", Value: "25000000", Optional: true, Why: kubelet},
	)
}

// Render gives the sysctl.d(5) file for SysctlPath.
func (s Sysctl) Render() ([]byte, error) { return render("sysctl.conf.tmpl", s.Settings()) }

// A Module is one kernel module and the reason for it.
type Module struct{ Name, Why string }

// Modules is the kernel modules that a host of a cluster needs. A kernel that
// has them built in is as good.
type Modules struct{}

// List names the modules, in load order.
func (Modules) List() []Module {
	return []Module{
		{"overlay", "containerd's snapshots"},
		{"br_netfilter", "pods of one host reach each other by Service"},
		{"vxlan", "the pod network between network segments"},
		{"nf_conntrack", "masquerading"},
		{"nf_tables", "masquerading, and refusing what no Service serves"},
		{"ip_vs", "Services"},
		{"ip_vs_rr", "Services: round robin"},
		{"ip_vs_wrr", "Services: weighted round robin"},
		{"ip_vs_sh", "Services: source hashing"},
	}
}

// Render gives the modules-load.d(5) file for ModulesLoadPath.
func (m Modules) Render() ([]byte, error) { return render("modules.conf.tmpl", m.List()) }

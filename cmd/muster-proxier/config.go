// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/proxier"
	"github.com/muster-project/muster/proxier/kernel"
)

// config is a KubeProxyConfiguration as this program understands it.
type config struct {
	proxier.Config
	exclude     []netip.Prefix // foreign virtual servers, even where they look like ours
	rules       kernel.Options
	settings    kernel.Settings
	nodeAddrs   []netip.Addr // the node's, where they are known beforehand
	oomScoreAdj *int32       // nil: whoever started this program decides

	client   kubeClient
	healthz  string // host:port
	metrics  string // host:port
	hardFail bool   // a port that is taken is an error, and not waited for
	profile  bool

	syncPeriod time.Duration // by which a change must have reached the kernel, twice
	verify     time.Duration // how often all of the kernel is compared; 0 is the proxier's default
	minSync    time.Duration // between two passes

	logJSON bool
	debug   bool

	whole   *kubeproxy.KubeProxyConfiguration // with defaults, for /configz
	ignored []string                          // fields that are set and have no effect, with reasons
	notes   []string                          // what is other than under kube-proxy
}

// kubeClient is how to talk to the API server.
type kubeClient struct {
	kubeconfig          string // empty: the pod's own credentials
	contentType, accept string
	qps                 float32
	burst               int
}

// host is what the configuration depends on beside the file.
type host struct {
	name func() (string, error)
	cpus int
}

// Values of detectLocalMode.
const (
	detectClusterCIDR = "ClusterCIDR"
	detectNodeCIDR    = "NodeCIDR"
	detectBridge      = "BridgeInterface"
	detectPrefix      = "InterfaceNamePrefix"
)

// captureBit is the bit of the packet mark that kernel uses itself.
const captureBit = 12

// maxConntrack bounds the table of large machines, as kube-proxy does.
const maxConntrack = 1 << 20

// parseConfig reads the file. Unknown keys and wrong values are all reported
// at once.
func parseConfig(data []byte, h host) (config, error) {
	in, err := decode(data)
	if in == nil {
		return config{}, err
	}
	var tree map[string]any
	if err2 := yaml.Unmarshal(data, &tree); err2 != nil {
		return config{}, errors.Join(err, err2)
	}
	out := config{ignored: ignoredFields(tree), oomScoreAdj: in.OOMScoreAdj, whole: in}
	verify := time.Duration(0)
	if in.Mode == "ipvs" {
		verify = in.IPVS.SyncPeriod.Duration
	}
	nodePortsUnset := len(in.NodePortAddresses) == 0
	setDefaults(in)
	var faults faults
	out.basics(in, &faults)
	out.periods(in, &faults)
	out.verify = verify
	out.addresses(in, &faults)
	out.detectLocal(in, &faults)
	out.limits(in, h.cpus, &faults)
	out.identify(in, h, &faults)
	if nodePortsUnset && in.Mode != "nftables" {
		out.notes = append(out.notes, "nodePortAddresses is not set: NodePorts are on the node's primary addresses only, where kube-proxy has them on all")
	}
	in.Mode = "ipvs" // in force, whatever the file says
	return out, errors.Join(append([]error{err}, faults...)...)
}

// basics are the fields that stand for themselves.
func (c *config) basics(in *kubeproxy.KubeProxyConfiguration, f *faults) {
	f.oneOf("mode", string(in.Mode), "", "ipvs", "iptables", "nftables")
	if in.Mode != "ipvs" {
		c.notes = append(c.notes, fmt.Sprintf("mode is %q: this program always works with IPVS", in.Mode))
	}
	c.Scheduler = in.IPVS.Scheduler
	f.oneOf("ipvs.scheduler", c.Scheduler, proxier.Schedulers()...)
	c.exclude = f.prefixes("ipvs.excludeCIDRs", in.IPVS.ExcludeCIDRs)
	c.client = kubeClient{
		kubeconfig: in.ClientConnection.Kubeconfig, contentType: in.ClientConnection.ContentType, accept: in.ClientConnection.AcceptContentTypes,
		qps: in.ClientConnection.QPS, burst: int(in.ClientConnection.Burst),
	}
	f.within("clientConnection.burst", int64(in.ClientConnection.Burst), 0, math.MaxInt32)
	f.within("oomScoreAdj", int64(*in.OOMScoreAdj), -1000, 1000)
	c.profile = in.EnableProfiling
	f.oneOf("logging.format", in.Logging.Format, "text", "json")
	c.logJSON, c.debug = in.Logging.Format == "json", in.Logging.Verbosity >= 4
	if in.ConfigSyncPeriod.Duration <= 0 {
		f.add("configSyncPeriod: %s: not more than 0", in.ConfigSyncPeriod.Duration)
	}
	c.masquerade(in, f)
}

// masquerade takes the section of the mode, as kube-proxy does; the ipvs mode
// has none of its own.
func (c *config) masquerade(in *kubeproxy.KubeProxyConfiguration, f *faults) {
	section, all, bit := "iptables", in.IPTables.MasqueradeAll, *in.IPTables.MasqueradeBit
	if in.Mode == "nftables" {
		section, all, bit = "nftables", in.NFTables.MasqueradeAll, *in.NFTables.MasqueradeBit
	}
	path := section + ".masqueradeBit"
	f.within(path, int64(bit), 0, 31)
	if bit == captureBit {
		f.add("%s: %d: this bit marks packets to external addresses here; choose another one", path, bit)
	}
	number := uint(bit)
	c.rules.MasqueradeAll, c.rules.MasqueradeBit = all, &number
}

// periods takes those of the mode.
func (c *config) periods(in *kubeproxy.KubeProxyConfiguration, f *faults) {
	section, sync, minSync := "iptables", in.IPTables.SyncPeriod, in.IPTables.MinSyncPeriod
	switch in.Mode {
	case "ipvs":
		section, sync, minSync = "ipvs", in.IPVS.SyncPeriod, in.IPVS.MinSyncPeriod
		c.minSync = minSync.Duration
	case "nftables":
		section, sync, minSync = "nftables", in.NFTables.SyncPeriod, in.NFTables.MinSyncPeriod
	}
	f.periods(section, sync, minSync)
	c.syncPeriod = sync.Duration
}

// addresses are where to listen, and the node's own.
func (c *config) addresses(in *kubeproxy.KubeProxyConfiguration, f *faults) {
	c.healthz, c.metrics, c.hardFail = in.HealthzBindAddress, in.MetricsBindAddress, in.BindAddressHardFail
	f.addrPort("healthzBindAddress", c.healthz)
	f.addrPort("metricsBindAddress", c.metrics)
	c.nodeAddrs = f.bindAddress(in.BindAddress)
	if slices.Equal(in.NodePortAddresses, []string{"primary"}) {
		return
	}
	if slices.Contains(in.NodePortAddresses, "primary") {
		f.add("nodePortAddresses: primary stands alone or not at all")
		return
	}
	c.NodePorts = f.prefixes("nodePortAddresses", in.NodePortAddresses)
	if len(c.NodePorts) == 0 {
		return
	}
	// A family that is not named is not restricted.
	for _, all := range [...]string{"0.0.0.0/0", "::/0"} {
		p := netip.MustParsePrefix(all)
		if !slices.ContainsFunc(c.NodePorts, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			c.NodePorts = append(c.NodePorts, p)
		}
	}
}

func (c *config) detectLocal(in *kubeproxy.KubeProxyConfiguration, f *faults) {
	f.oneOf("detectLocalMode", string(in.DetectLocalMode), detectClusterCIDR, detectNodeCIDR, detectBridge, detectPrefix)
	need := func(path, name string) string {
		if name == "" {
			f.add("%s: not set, and detectLocalMode is %s", path, in.DetectLocalMode)
		}
		return name
	}
	local := &c.DetectLocal
	switch in.DetectLocalMode {
	case detectClusterCIDR:
		local.CIDRs = f.prefixes("clusterCIDR", strings.FieldsFunc(in.ClusterCIDR, func(r rune) bool { return r == ',' }))
		if in.ClusterCIDR == "" {
			c.notes = append(c.notes, "clusterCIDR is not set: no source counts as outside the cluster, and nothing is masqueraded for that")
		}
	case detectNodeCIDR:
		local.NodeCIDRs = true
	case detectBridge:
		local.Interface = need("detectLocal.bridgeInterface", in.DetectLocal.BridgeInterface)
	case detectPrefix:
		local.InterfacePrefix = need("detectLocal.interfaceNamePrefix", in.DetectLocal.InterfaceNamePrefix)
	}
	c.rules.DetectLocal = *local
}

// limits are the settings of conntrack and IPVS.
func (c *config) limits(in *kubeproxy.KubeProxyConfiguration, cpus int, f *faults) {
	ct, vs := in.Conntrack, in.IPVS
	f.within("conntrack.maxPerCore", int64(*ct.MaxPerCore), 0, math.MaxInt32)
	f.within("conntrack.min", int64(*ct.Min), 0, math.MaxInt32)
	f.notNegative(map[string]time.Duration{
		"conntrack.tcpEstablishedTimeout": ct.TCPEstablishedTimeout.Duration, "conntrack.tcpCloseWaitTimeout": ct.TCPCloseWaitTimeout.Duration,
		"conntrack.udpTimeout": ct.UDPTimeout.Duration, "conntrack.udpStreamTimeout": ct.UDPStreamTimeout.Duration,
		"ipvs.tcpTimeout": vs.TCPTimeout.Duration, "ipvs.tcpFinTimeout": vs.TCPFinTimeout.Duration, "ipvs.udpTimeout": vs.UDPTimeout.Duration,
	})
	c.settings = kernel.Settings{
		ConntrackMax:         conntrackMax(int(*ct.MaxPerCore), int(*ct.Min), cpus),
		ConntrackEstablished: ct.TCPEstablishedTimeout.Duration,
		ConntrackCloseWait:   ct.TCPCloseWaitTimeout.Duration,
		// The flow is forgotten when the first of the two forgets it
		// (kubernetes/kubernetes#120076), so one setting is for both.
		ConntrackUDP:       orElse(ct.UDPTimeout.Duration, vs.UDPTimeout.Duration),
		ConntrackUDPStream: orElse(ct.UDPStreamTimeout.Duration, vs.UDPTimeout.Duration),
		ConntrackLiberal:   ct.TCPBeLiberal,
		IPVSTCP:            vs.TCPTimeout.Duration, IPVSTCPFin: vs.TCPFinTimeout.Duration, IPVSUDP: vs.UDPTimeout.Duration,
		StrictARP: vs.StrictARP,
	}
}

// conntrackMax is the size of the table; 0 leaves it as it is.
func conntrackMax(perCore, least, cpus int) int {
	if perCore == 0 {
		return 0
	}
	if perCore*cpus > maxConntrack {
		return maxConntrack
	}
	return max(perCore*cpus, least)
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// identify finds out which Node this is.
func (c *config) identify(in *kubeproxy.KubeProxyConfiguration, h host, f *faults) {
	name := in.HostnameOverride
	if name == "" {
		var err error
		if name, err = h.name(); err != nil {
			f.add("hostnameOverride: not set, and the host has no name: %v", err)
			return
		}
	}
	if c.Node = strings.ToLower(strings.TrimSpace(name)); c.Node == "" {
		f.add("hostnameOverride: %q: empty", name)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

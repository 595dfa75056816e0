// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// bridgeCalls are the settings of br_netfilter by which packets inside a
// bridge pass IP's hooks.
func bridgeCalls() []string {
	return []string{"/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"}
}

// bridges finds bridges between pods whose packets IPVS would not see: a pod
// that answers another one on the same bridge answers it directly, from an
// address that the other did not ask. Pods that reach themselves need
// nothing of the bridge: IPVS sends their packets from the host.
func bridges() ([]Finding, error) {
	with, err := bridgesWithPorts()
	if err != nil || len(with) == 0 {
		return nil, err
	}
	var all []Finding
	for _, file := range bridgeCalls() {
		value, err := os.ReadFile(file)
		where := "bridge " + strings.Join(with, ", ")
		setting := strings.ReplaceAll(strings.TrimPrefix(file, "/proc/sys/"), "/", ".")
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return []Finding{{where, "the module br_netfilter is not loaded, so Services fail between pods on one bridge: `modprobe br_netfilter`"}}, nil
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", file, err)
		case strings.TrimSpace(string(value)) == "0":
			all = append(all, Finding{where, fmt.Sprintf("Services fail between pods on one bridge: `sysctl -w %s=1`", setting)})
		}
	}
	return all, nil
}

func bridgesWithPorts() ([]string, error) {
	var links []netlink.Link
	var err error
	for range 5 {
		if links, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	ports := map[int]bool{}
	for _, l := range links {
		if l.Attrs().MasterIndex > 0 {
			ports[l.Attrs().MasterIndex] = true
		}
	}
	var names []string
	for _, l := range links {
		if l.Type() == "bridge" && ports[l.Attrs().Index] {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

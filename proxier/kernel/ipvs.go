// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// The generic netlink interface of IPVS, from include/uapi/linux/ip_vs.h.
const (
	ipvsFamily  = "IPVS"
	ipvsVersion = 1

	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdSetConfig  = 12
	cmdGetConfig  = 13

	attrService       = 1
	attrDest          = 2
	attrTimeoutTCP    = 4
	attrTimeoutTCPFin = 5
	attrTimeoutUDP    = 6

	svcAF        = 1
	svcProtocol  = 2
	svcAddr      = 3
	svcPort      = 4
	svcFwmark    = 5
	svcScheduler = 6
	svcFlags     = 7
	svcTimeout   = 8
	svcNetmask   = 9
	svcStats64   = 12

	statsConns      = 1
	statsInPackets  = 2
	statsOutPackets = 3
	statsInBytes    = 4
	statsOutBytes   = 5

	destAddr      = 1
	destPort      = 2
	destForward   = 3
	destWeight    = 4
	destUpper     = 5
	destLower     = 6
	destAddrAF    = 11
	forwardMasq   = 0
	flagHashed    = 0x0002 // the kernel's own mark on every service
	allFlags      = 0xffffffff
	wholeAddress4 = 0xffffffff // netmask: every client address by itself
	wholeAddress6 = 128        // the same; IPv6 has a prefix length here
)

// ipvs is the IPVS of one network namespace.
type ipvs struct{ *genl }

func dialIPVS() (*ipvs, error) {
	g, err := dialGenl(ipvsFamily, ipvsVersion)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: this kernel has no IPVS; load it with `modprobe ip_vs`, or use a kernel built with CONFIG_IP_VS", err)
	}
	if err != nil {
		return nil, err
	}
	return &ipvs{g}, nil
}

// try makes the changes in order. A refused change does not stop those after
// it; an error does.
func (v *ipvs) try(changes []proxier.ServerChange) (refused proxier.Refused, err error) {
	for len(changes) > 0 {
		b := v.batch()
		n := 0
		for n < len(changes) && !b.full() {
			encodeChange(b, changes[n])
			n++
		}
		err := v.exchange(b, func(i uint32, errno unix.Errno) error {
			if int(i) < n {
				refused = append(refused, &proxier.ChangeError{Change: changes[i], Err: errno})
			}
			return nil
		}, func([]byte) error { return nil })
		if err != nil {
			return refused, fmt.Errorf("change IPVS: %w", err)
		}
		changes = changes[n:]
	}
	return refused, nil
}

// options reads the settings of every virtual server. /proc has the rest, but
// neither flags nor the timeout of servers without affinity.
func (v *ipvs) options() (map[proxier.Frontend]proxier.Options, error) {
	var list map[proxier.Frontend]proxier.Options
	err := v.dump(cmdGetService,
		func() { list = map[proxier.Frontend]proxier.Options{} },
		func(body []byte) error {
			f, o, ok, err := decodeService(body)
			if ok {
				list[f] = o
			}
			return err
		})
	return list, wrap("list IPVS services", err)
}

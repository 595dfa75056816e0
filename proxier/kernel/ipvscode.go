// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/proxier"
)

// encodeChange appends the message for one change.
func encodeChange(b *batch, c proxier.ServerChange) {
	at := b.begin(command(c.Verb), 0)
	full := c.Verb == proxier.AddServer || c.Verb == proxier.EditServer
	encodeService(b, c.Frontend, c.Options, full)
	switch c.Verb {
	case proxier.AddDest, proxier.EditDest:
		encodeDest(b, c.Dest, true)
	case proxier.DelDest:
		encodeDest(b, c.Dest, false)
	}
	b.end(at)
}

func command(v proxier.Verb) uint8 {
	switch v {
	case proxier.AddServer:
		return cmdNewService
	case proxier.EditServer:
		return cmdSetService
	case proxier.DelServer:
		return cmdDelService
	case proxier.AddDest:
		return cmdNewDest
	case proxier.EditDest:
		return cmdSetDest
	case proxier.DelDest:
		return cmdDelDest
	}
	panic(fmt.Sprintf("%s has no IPVS command", v))
}

// encodeService names a virtual server, and with full also says what it is.
func encodeService(b *batch, f proxier.Frontend, o proxier.Options, full bool) {
	nest := b.nest(attrService)
	b.u16(svcAF, family(f.Addr.Addr()))
	b.u16(svcProtocol, uint16(f.Proto))
	b.addr(svcAddr, f.Addr.Addr())
	b.be16(svcPort, f.Addr.Port())
	if full {
		b.bytes(svcScheduler, append([]byte(o.Scheduler), 0))
		b.header(svcFlags, 8)
		b.buf = binary.NativeEndian.AppendUint32(b.buf, uint32(o.Flags))
		b.buf = binary.NativeEndian.AppendUint32(b.buf, allFlags)
		b.u32(svcTimeout, o.Timeout)
		if f.Addr.Addr().Is4() {
			b.be32(svcNetmask, wholeAddress4)
		} else {
			// A prefix length in host order, whatever the field's type says
			// (ip_vs_add_service, "plen").
			b.u32(svcNetmask, wholeAddress6)
		}
	}
	b.unnest(nest)
}

func encodeDest(b *batch, d proxier.Dest, full bool) {
	nest := b.nest(attrDest)
	b.addr(destAddr, d.Addr.Addr())
	b.be16(destPort, d.Addr.Port())
	b.u16(destAddrAF, family(d.Addr.Addr()))
	if full {
		b.u32(destForward, forwardMasq)
		b.u32(destWeight, d.Weight)
		b.u32(destUpper, 0)
		b.u32(destLower, 0)
	}
	b.unnest(nest)
}

// addr writes an address as the kernel's union of 16 bytes, IPv4 in front.
func (b *batch) addr(kind uint16, a netip.Addr) {
	b.header(kind, 16)
	raw := a.AsSlice()
	b.buf = append(b.buf, raw...)
	b.buf = append(b.buf, make([]byte, 16-len(raw))...)
}

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// decodeService reads one entry of the list of services. ok is false for
// services by firewall mark, which have no address and are never ours.
func decodeService(body []byte) (f proxier.Frontend, o proxier.Options, ok bool, err error) {
	outer, err := parseAttrs(body)
	if err != nil {
		return f, o, false, err
	}
	in, err := parseAttrs(outer[attrService])
	if err != nil {
		return f, o, false, err
	}
	if _, mark := in[svcFwmark]; mark {
		return f, o, false, nil
	}
	for kind, size := range map[uint16]int{svcAF: 2, svcProtocol: 2, svcAddr: 16, svcPort: 2, svcFlags: 8, svcTimeout: 4} {
		if len(in[kind]) < size {
			return f, o, false, fmt.Errorf("IPVS service: attribute %d has %d bytes, want %d", kind, len(in[kind]), size)
		}
	}
	addr := netip.AddrFrom16([16]byte(in[svcAddr]))
	if binary.NativeEndian.Uint16(in[svcAF]) == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(in[svcAddr]))
	}
	f = proxier.Frontend{
		Addr:  netip.AddrPortFrom(addr, binary.BigEndian.Uint16(in[svcPort])),
		Proto: proxier.Protocol(binary.NativeEndian.Uint16(in[svcProtocol])),
	}
	o = proxier.Options{
		Scheduler: string(bytes.TrimRight(in[svcScheduler], "\x00")),
		Flags:     proxier.Flags(binary.NativeEndian.Uint32(in[svcFlags]) &^ flagHashed),
		Timeout:   binary.NativeEndian.Uint32(in[svcTimeout]),
	}
	return f, o, true, nil
}

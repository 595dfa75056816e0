// SPDX-License-Identifier: Apache-2.0

package xtables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nameSize is that of a table's name in every structure, in bytes.
const nameSize = 32

// info is struct ipt_getinfo.
type info struct {
	valid     uint32    // bits: which built-in chains there are
	underflow [5]uint32 // where the entry with the policy of each is
	size      uint32    // of all entries, in bytes
}

func (f Family) info(table string) (info, error) {
	buf := make([]byte, nameSize+4+20+20+4+4)
	copy(buf[:nameSize-1], table)
	if err := f.option(f.optInfo, buf); err != nil {
		return info{}, err
	}
	word := func(n int) uint32 { return binary.NativeEndian.Uint32(buf[nameSize+4*n:]) }
	i := info{valid: word(0), size: word(12)}
	for h := range i.underflow {
		i.underflow[h] = word(6 + h)
	}
	return i, nil
}

// entries is struct ipt_get_entries: a name, a size, and after padding the
// entries.
func (f Family) entries(table string, size uint32) ([]byte, error) {
	const header = nameSize + 8
	buf := make([]byte, header+int(size))
	copy(buf[:nameSize-1], table)
	binary.NativeEndian.PutUint32(buf[nameSize:], size)
	if err := f.option(f.optEntry, buf); err != nil {
		return nil, err
	}
	return buf[header:], nil
}

// option asks by a socket of any kind; raw ones, which the programs use, need
// one more capability.
func (f Family) option(name int, buf []byte) error {
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	length := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(f.level), uintptr(name),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// The standard target has a verdict where the target that begins a chain has
// the chain's name (struct xt_standard_target, struct xt_error_target).
const (
	targetHeader = 32
	targetName   = 2
	targetNames  = 29
	beginsChain  = "ERROR"
	verdictDrop  = -1 // -NF_DROP - 1
)

var errShort = errors.New("an entry reaches beyond the end")

// parse walks the entries of a table.
func (f Family) parse(i info, blob []byte) (Table, error) {
	var t Table
	policy := map[uint32]string{}
	for h, name := range hooks() {
		if i.valid&(1<<h) != 0 {
			policy[i.underflow[h]] = name
		}
	}
	for at := 0; at < len(blob); {
		entry := blob[at:]
		if len(entry) < f.headers {
			return t, errShort
		}
		target := int(binary.NativeEndian.Uint16(entry[f.offsets:]))
		next := int(binary.NativeEndian.Uint16(entry[f.offsets+2:]))
		if next < f.headers || next > len(entry) || target < f.headers || target+targetHeader+4 > next {
			return t, fmt.Errorf("at %d of %d: %w", at, len(blob), errShort)
		}
		name := text(entry[target+targetName:][:targetNames])
		if hook, ok := policy[uint32(at)]; ok && name == "" && int32(binary.NativeEndian.Uint32(entry[target+targetHeader:])) == verdictDrop {
			t.Drops = append(t.Drops, hook)
		}
		// The last entry of all is such a target too, of the table itself.
		if name == beginsChain && at+next < len(blob) {
			t.Chains = append(t.Chains, text(entry[target+targetHeader:next]))
		}
		at += next
	}
	return t, nil
}

func text(raw []byte) string {
	if end := bytes.IndexByte(raw, 0); end >= 0 {
		raw = raw[:end]
	}
	return string(raw)
}

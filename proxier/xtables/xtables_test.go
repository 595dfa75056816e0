// SPDX-License-Identifier: Apache-2.0

package xtables

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// entry is one as the kernel has it: name of the target, and what is in it.
func entry(f Family, name string, data []byte) []byte {
	data = append(slices.Clone(data), make([]byte, (8-len(data)%8)%8)...)
	e := make([]byte, f.headers+targetHeader, f.headers+targetHeader+len(data))
	binary.NativeEndian.PutUint16(e[f.offsets:], uint16(f.headers))
	binary.NativeEndian.PutUint16(e[f.offsets+2:], uint16(cap(e)))
	copy(e[f.headers+targetName:], name)
	return append(e, data...)
}

func verdict(v int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(v)) }

// filter is INPUT with a policy of drop, FORWARD with one of accept, and a
// chain.
func filter(f Family) (info, []byte) {
	const accept = -2
	input, forward := entry(f, "", verdict(verdictDrop)), entry(f, "", verdict(accept))
	blob := slices.Concat(input, forward, entry(f, "", verdict(verdictDrop)), entry(f, beginsChain, []byte("KUBE-SERVICES\x00")), entry(f, beginsChain, []byte("ERROR\x00")))
	return info{valid: 1<<1 | 1<<2, underflow: [5]uint32{0, 0, uint32(len(input)), 0, 0}, size: uint32(len(blob))}, blob
}

func TestParse(t *testing.T) {
	for _, f := range Families() {
		got, err := f.parse(filter(f))
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if !slices.Equal(got.Chains, []string{"KUBE-SERVICES"}) || !slices.Equal(got.Drops, []string{"INPUT"}) {
			t.Errorf("%s: got %+v", f.Name, got)
		}
		i, blob := filter(f)
		for cut := 1; cut < len(blob); cut++ {
			if _, err := f.parse(i, blob[:len(blob)-cut]); err != nil && !errors.Is(err, errShort) {
				t.Fatalf("%s: cut by %d: %v", f.Name, cut, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, family := range Families() {
		_, blob := filter(family)
		f.Add(blob)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		for _, family := range Families() {
			i, _ := filter(family)
			if got, err := family.parse(i, blob); err == nil && len(got.Chains)*family.headers > len(blob) {
				t.Errorf("%d chains in %d bytes", len(got.Chains), len(blob))
			}
		}
	})
}

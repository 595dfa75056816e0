// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
)

// words are the expressions that the owner of a table understands: iptables
// refuses to show a table with those of nftables in it, and nftables shows
// those of iptables as comments only.
type words interface {
	established() []expr.Any
	marked(bit uint32) []expr.Any
	accept(when []expr.Any) []expr.Any
	note() []byte // beside the rule
}

func (w wall) words() words {
	if w.table.Name == "filter" && w.table.Family != nftables.TableFamilyINet {
		return iptables{}
	}
	return native{}
}

// Bits of connection states, the same in both.
const (
	stateEstablished = 2
	stateRelated     = 4
)

type iptables struct{}

func (iptables) established() []expr.Any {
	const byState = 1 // XT_CONNTRACK_STATE
	return []expr.Any{&expr.Match{Name: "conntrack", Rev: 3, Info: &xt.ConntrackMtinfo3{ConntrackMtinfo2: xt.ConntrackMtinfo2{
		ConntrackMtinfoBase: xt.ConntrackMtinfoBase{MatchFlags: byState}, StateMask: stateRelated | stateEstablished}}}}
}

// marked is struct xt_mark_mtinfo1: mark, mask, and a byte to invert.
func (iptables) marked(bit uint32) []expr.Any {
	raw := make(xt.Unknown, 0, 12)
	raw = binary.NativeEndian.AppendUint32(raw, bit)
	raw = binary.NativeEndian.AppendUint32(raw, bit)
	raw = append(raw, 0, 0, 0, 0)
	return []expr.Any{&expr.Match{Name: "mark", Rev: 1, Info: &raw}}
}

func (iptables) accept(when []expr.Any) []expr.Any {
	text := xt.Comment(comment)
	return append(when, &expr.Match{Name: "comment", Info: &text}, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
}

func (iptables) note() []byte { return nil }

type native struct{}

func (native) established() []expr.Any {
	return append([]expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}, anyBit(stateRelated|stateEstablished)...)
}

func (native) marked(bit uint32) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}}, anyBit(bit)...)
}

func anyBit(mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func (native) accept(when []expr.Any) []expr.Any {
	return append(when, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
}

func (native) note() []byte { return userdata.AppendString(nil, userdata.TypeComment, comment) }

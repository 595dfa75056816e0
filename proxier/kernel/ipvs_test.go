// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muster-project/muster/internal/golden"
	"github.com/muster-project/muster/proxier"
)

// TestNumbers compares ours with the kernel's header.
func TestNumbers(t *testing.T) {
	ours := map[string]int{
		"IPVS_CMD_NEW_SERVICE": cmdNewService, "IPVS_CMD_SET_SERVICE": cmdSetService, "IPVS_CMD_DEL_SERVICE": cmdDelService,
		"IPVS_CMD_GET_SERVICE": cmdGetService, "IPVS_CMD_NEW_DEST": cmdNewDest, "IPVS_CMD_SET_DEST": cmdSetDest, "IPVS_CMD_DEL_DEST": cmdDelDest,
		"IPVS_CMD_SET_CONFIG": cmdSetConfig, "IPVS_CMD_GET_CONFIG": cmdGetConfig,
		"IPVS_CMD_ATTR_TIMEOUT_TCP": attrTimeoutTCP, "IPVS_CMD_ATTR_TIMEOUT_TCP_FIN": attrTimeoutTCPFin, "IPVS_CMD_ATTR_TIMEOUT_UDP": attrTimeoutUDP,
		"IPVS_SVC_ATTR_STATS64": svcStats64, "IPVS_STATS_ATTR_CONNS": statsConns, "IPVS_STATS_ATTR_INPKTS": statsInPackets,
		"IPVS_STATS_ATTR_OUTPKTS": statsOutPackets, "IPVS_STATS_ATTR_INBYTES": statsInBytes, "IPVS_STATS_ATTR_OUTBYTES": statsOutBytes,
		"IPVS_CMD_ATTR_SERVICE": attrService, "IPVS_CMD_ATTR_DEST": attrDest,
		"IPVS_SVC_ATTR_AF": svcAF, "IPVS_SVC_ATTR_PROTOCOL": svcProtocol, "IPVS_SVC_ATTR_ADDR": svcAddr, "IPVS_SVC_ATTR_PORT": svcPort,
		"IPVS_SVC_ATTR_FWMARK": svcFwmark, "IPVS_SVC_ATTR_SCHED_NAME": svcScheduler, "IPVS_SVC_ATTR_FLAGS": svcFlags,
		"IPVS_SVC_ATTR_TIMEOUT": svcTimeout, "IPVS_SVC_ATTR_NETMASK": svcNetmask,
		"IPVS_DEST_ATTR_ADDR": destAddr, "IPVS_DEST_ATTR_PORT": destPort, "IPVS_DEST_ATTR_FWD_METHOD": destForward,
		"IPVS_DEST_ATTR_WEIGHT": destWeight, "IPVS_DEST_ATTR_U_THRESH": destUpper, "IPVS_DEST_ATTR_L_THRESH": destLower,
		"IPVS_DEST_ATTR_ADDR_FAMILY": destAddrAF,
		"IP_VS_CONN_F_MASQ":          forwardMasq, "IP_VS_SVC_F_HASHED": flagHashed,
		"IP_VS_SVC_F_PERSISTENT": int(proxier.FlagPersistent), "IP_VS_SVC_F_SCHED2": int(proxier.FlagSched2),
	}
	data, err := os.ReadFile("testdata/ip_vs.txt")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(data)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if want, err := strconv.Atoi(number); err == nil {
			if got, ok := ours[name]; ok {
				found++
				if got != want {
					t.Errorf("%s is %d, the kernel says %d", name, got, want)
				}
			}
		}
	}
	if found != len(ours) {
		t.Errorf("%d of %d numbers are in the header", found, len(ours))
	}
}

// TestEncode prints the messages of one change of each kind.
func TestEncode(t *testing.T) {
	v4 := proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: proxier.TCP}
	v6 := proxier.Frontend{Addr: netip.MustParseAddrPort("[fd00:96::7]:53"), Proto: proxier.UDP}
	d4 := proxier.Dest{Addr: netip.MustParseAddrPort("10.244.0.2:8080"), Weight: 1}
	d6 := proxier.Dest{Addr: netip.MustParseAddrPort("[fd00:244::2]:5353")}
	affinity := proxier.Options{Scheduler: "mh", Flags: proxier.FlagPersistent | proxier.FlagSched2, Timeout: 10800}
	var out bytes.Buffer
	for _, c := range []proxier.ServerChange{
		{Verb: proxier.AddServer, Frontend: v4, Options: proxier.Options{Scheduler: "rr"}},
		{Verb: proxier.EditServer, Frontend: v6, Options: affinity},
		{Verb: proxier.DelServer, Frontend: v4},
		{Verb: proxier.AddDest, Frontend: v4, Dest: d4},
		{Verb: proxier.EditDest, Frontend: v6, Dest: d6},
		{Verb: proxier.DelDest, Frontend: v6, Dest: d6},
	} {
		b := (&genl{family: 0x21, version: ipvsVersion, seq: 6}).batch()
		encodeChange(b, c)
		b.acknowledge()
		fmt.Fprintf(&out, "%s\n%s\n", c, hex.Dump(b.buf))
		if m, err := parseMessages(b.buf); err != nil || len(m) != 1 || m[0].seq != 7 || m[0].flags != unix.NLM_F_REQUEST|unix.NLM_F_ACK {
			t.Errorf("%s: read back as %+v, %v", c, m, err)
		}
	}
	golden.Equal(t, "messages.hex", out.Bytes())
}

func TestServiceComesBack(t *testing.T) {
	for _, f := range []proxier.Frontend{
		{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: proxier.TCP},
		{Addr: netip.MustParseAddrPort("[fd00:96::7]:53"), Proto: proxier.SCTP},
	} {
		want := proxier.Options{Scheduler: "wlc", Flags: proxier.FlagPersistent, Timeout: 60}
		b := (&genl{}).batch()
		encodeService(b, f, want, true)
		got, o, ok, err := decodeService(b.buf)
		if err != nil || !ok || got != f || o != want {
			t.Errorf("%s came back as %s %+v, %t, %v", f, got, o, ok, err)
		}
	}
	var b batch
	nest := b.nest(attrService)
	b.u16(svcAF, unix.AF_INET)
	b.u32(svcFwmark, 77)
	b.unnest(nest)
	if _, _, ok, err := decodeService(b.buf); ok || err != nil {
		t.Errorf("a service by firewall mark: %t, %v, want to be left out", ok, err)
	}
}

func TestAnswers(t *testing.T) {
	b := &batch{first: 10, next: 13}
	errorMessage := func(seq uint32, errno unix.Errno) message {
		var a attrs
		a.u32(0, uint32(-int32(errno)))
		return message{kind: unix.NLMSG_ERROR, seq: seq, body: a.buf[4:]}
	}
	var refused []string
	note := func(n uint32, errno unix.Errno) error {
		refused = append(refused, fmt.Sprint(n, " ", errno))
		return nil
	}
	none := func([]byte) error { return nil }
	done, err := b.answers([]message{errorMessage(9, unix.EIO), errorMessage(10, unix.EEXIST), errorMessage(11, unix.ENOENT)}, note, none)
	if done || err != nil {
		t.Errorf("before the last answer: %t, %v", done, err)
	}
	if done, err = b.answers([]message{errorMessage(12, 0)}, note, none); !done || err != nil {
		t.Errorf("after the last answer: %t, %v", done, err)
	}
	if want := []string{"0 file exists", "1 no such file or directory"}; strings.Join(refused, ",") != strings.Join(want, ",") {
		t.Errorf("refused %q, want %q", refused, want)
	}
}

const procExample = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600007:0050 rr 
  -> 0AF40003:1F90      Masq    0      2          5         
  -> 0AF40002:1F90      Masq    1      0          0         
UDP  [fd00:0096:0000:0000:0000:0000:0000:0007]:0035 mh persistent 10800 FFFFFFFF
  -> [fd00:0244:0000:0000:0000:0000:0000:0002]:14E9      Masq    1      0          1         
FWM  0000004D rr 
  -> 0AF40009:0000      Masq    1      0          0         
SCTP  0A600008:0009 rr 
`

func TestParseProc(t *testing.T) {
	got, err := parseProc(strings.NewReader(procExample))
	if err != nil {
		t.Fatal(err)
	}
	want := `10.96.0.7:80/tcp [{{10.244.0.2:8080 1} 0} {{10.244.0.3:8080 0} 7}]
10.96.0.8:9/sctp []
[fd00:96::7]:53/udp [{{[fd00:244::2]:5353 1} 1}]
`
	var out strings.Builder
	for _, name := range []string{"10.96.0.7:80", "10.96.0.8:9", "[fd00:96::7]:53"} {
		for f, list := range got {
			if f.Addr.String() == name {
				fmt.Fprintln(&out, f, list)
			}
		}
	}
	if out.String() != want || len(got) != 3 {
		t.Errorf("got\n%s(%d servers), want\n%s", out.String(), len(got), want)
	}
	for _, bad := range []string{"TCP", "TCP  0A6007:0050 rr", "TCP  0A600007 rr", "TCP  0A600007:0050 rr\n  -> 0AF40002:1F90 Masq one 0 0", "TCP  0A600007:0050 rr\n  -> 0AF40002:1F90"} {
		if _, err := parseProc(strings.NewReader("\n\n\n" + bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add(procExample)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseProc(strings.NewReader(text))
		for f := range list {
			if err == nil && !f.Addr.IsValid() {
				t.Errorf("accepted the address %s", f.Addr)
			}
		}
	})
}

func FuzzParseMessages(f *testing.F) {
	b := (&genl{}).batch()
	encodeChange(b, proxier.ServerChange{Verb: proxier.DelServer, Frontend: proxier.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80")}})
	f.Add(b.buf)
	f.Fuzz(func(t *testing.T, buf []byte) {
		messages, err := parseMessages(buf)
		if err != nil {
			return
		}
		for _, m := range messages {
			m.errno()
			if len(m.body) >= unix.GENL_HDRLEN {
				_, _, _, _ = decodeService(m.body[unix.GENL_HDRLEN:])
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	vishvananda "github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/muster-project/muster/e2e/bench/document"
	"github.com/muster-project/muster/internal/golden"
)

func TestParseArguments(t *testing.T) {
	o, err := parse([]string{"-sizes", "2,10000", "-bound", "1m"}, io.Discard)
	if err != nil || !slices.Equal(o.sizes, []int{2, 10000}) || o.bound != time.Minute || o.budget == 0 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"-sizes", "1"}, {"-sizes", ""}, {"-sizes", "10,many"}, {"-sizes", "90000"}, {"more"}, {"-unknown"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		sorted   []time.Duration
		p50, p99 time.Duration
	}{
		{[]time.Duration{7}, 7, 7},
		{[]time.Duration{1, 2}, 2, 2},
		{[]time.Duration{1, 2, 3, 4, 5}, 3, 5},
	} {
		if p50, p99 := quantile(c.sorted, 0.5), quantile(c.sorted, 0.99); p50 != c.p50 || p99 != c.p99 {
			t.Errorf("%v: %d, %d, want %d, %d", c.sorted, p50, p99, c.p50, c.p99)
		}
	}
}

func TestAwait(t *testing.T) {
	asked := 0
	took, err := await(t.Context(), time.Now(), func() (bool, error) { asked++; return asked == 5, nil })
	if err != nil || asked != 5 || took < 4*shortPause {
		t.Errorf("asked %d times in %s, %v", asked, took, err)
	}
	broken := errors.New("broken")
	if _, err := await(t.Context(), time.Now(), func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Millisecond, errOver)
	defer cancel()
	if took, err := await(ctx, time.Now(), func() (bool, error) { return false, nil }); !errors.Is(err, errOver) || took < 5*time.Millisecond {
		t.Errorf("%s, %v", took, err)
	}
}

func TestTotalCalls(t *testing.T) {
	const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000300           3       100         2 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500           4       123         2 total
`
	if n, err := totalCalls(table); n != 123 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := totalCalls("strace: attach: refused\n"); err == nil {
		t.Error("a table without a total is read")
	}
}

func TestForksOfTheFamilyCount(t *testing.T) {
	f := &forks{family: map[uint32]bool{}}
	f.follow(100)
	fork := func(parent, pid, tgid uint32) {
		f.see(vishvananda.ProcEvent{Msg: &vishvananda.ForkProcEvent{ParentPid: parent, ParentTgid: parent, ChildPid: pid, ChildTgid: tgid}})
	}
	fork(100, 101, 100) // a thread
	fork(100, 110, 110)
	fork(110, 111, 111) // by a child
	fork(900, 901, 901) // by somebody else
	f.see(vishvananda.ProcEvent{Msg: &vishvananda.ExecProcEvent{ProcessPid: 110, ProcessTgid: 110}})
	if n, err := f.so(); n != 2 || err != nil {
		t.Errorf("%d forks, %v, want 2", n, err)
	}
}

func TestDecodeDest(t *testing.T) {
	e := netlink.NewAttributeEncoder()
	e.Nested(attrDest, func(e *netlink.AttributeEncoder) error {
		e.Bytes(destAddr, append([]byte{10, 128, 0, 7}, make([]byte, 12)...))
		e.Bytes(destPort, []byte{0x1f, 0x90})
		e.Uint32(destWeight, 1)
		return nil
	})
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	addr, weight, err := decodeDest(data)
	if want := netip.MustParseAddrPort("10.128.0.7:8080"); addr != want || weight != 1 || err != nil {
		t.Errorf("%s weight %d, %v, want %s", addr, weight, err, want)
	}
}

func TestDecodeSetSize(t *testing.T) {
	e := netlink.NewAttributeEncoder()
	e.String(nl.IPSET_ATTR_SETNAME, "KUBE-CLUSTER-IP")
	e.Nested(nl.IPSET_ATTR_DATA, func(e *netlink.AttributeEncoder) error {
		e.Bytes(nl.IPSET_ATTR_ELEMENTS, []byte{0, 0, 0x27, 0x10})
		return nil
	})
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := decodeSetSize(data); n != 10_000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestLoadReachesServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	target := netip.MustParseAddrPort(listener.Addr().String())
	var orders, answers bytes.Buffer
	for _, keep := range []bool{true, false} {
		if err := json.NewEncoder(&orders).Encode(load{Target: target, KeepAlive: keep, Clients: 2, For: 50 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	if err := takeOrders(t.Context(), &orders, &answers); err != nil {
		t.Fatal(err)
	}
	heard := json.NewDecoder(&answers)
	for range 2 {
		var r loadResult
		if err := heard.Decode(&r); err != nil || r.Requests == 0 || r.Fault != "" || r.Faults > 0 || r.P99 < r.P50 || r.rate() <= 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if r := (load{Target: target, Clients: 1, For: 10 * time.Millisecond}).run(t.Context()); r.Fault == "" || r.Faults == 0 {
		t.Errorf("nobody listens, and %+v", r)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var all tail
	for i := range 10_000 {
		fmt.Fprintln(&all, i)
	}
	if got := all.String(); len(got) > tailSize || !strings.HasSuffix(got, "\n9998\n9999") {
		t.Errorf("%q", got)
	}
}

func TestSection(t *testing.T) {
	where := document.Place{Cores: 2, Model: "Example CPU", Kernel: "6.12.0", Load: "0.10, 0.20, 0.30", Commit: "0123456789ab"}
	o := options{sizes: []int{100, 10_000}, bound: 10 * time.Minute}
	var idle, full []result
	for i, who := range contenders() {
		slow := time.Duration(1 + 40*i)
		idle = append(idle, result{Contender: who, Services: idleServices, PeakRSS: 25e6, RestRSS: 20e6})
		full = append(full, result{
			Contender: who, Services: 100, Cold: bounded{Took: slow * time.Second}, ColdCPU: slow * 900 * time.Millisecond, ColdForks: 200 * i,
			Changes: []time.Duration{slow * 3e6, slow * 2e6, slow * 9e6}, Rolling: bounded{Took: slow * 5e6}, RollingCPU: slow * 10e6,
			Rest: 35 * time.Second, RestCPU: slow * 10e6, Resync: syncs{Count: uint64(2 - i), Took: slow * 1e6}, ResyncCPU: slow * 10e6,
			Forks: 55 * i, PeakRSS: 30e6, RestRSS: 29e6, PeakMemory: 12e6, Syscalls: float64(slow * 100),
			Data: map[string]loadResult{dataKey(direct, true): {Requests: 3000, Took: 3 * time.Second, P50: 1e6, P99: 2e6, Faults: i}},
		})
	}
	full = append(full,
		result{Contender: muster, Services: 10_000, Cold: bounded{Took: 2 * time.Second}, Changes: []time.Duration{4e6}},
		result{Contender: kubeIPVS, Services: 10_000, Cold: bounded{Took: 10 * time.Minute, Over: true}},
		result{Contender: kubeNFT, Services: 10_000, Skipped: "no time left"})
	out, err := render(where, o, 90*time.Minute, idle, full)
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "section.golden", out)
}

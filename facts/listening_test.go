// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/muster-project/muster/facts"
)

func TestListening(t *testing.T) {
	for _, c := range []struct {
		table string
		want  map[int]bool
	}{
		{"", map[int]bool{}},
		{tcpTable(), map[int]bool{}},
		{tcpTable("00000000:192B 00000000:0000 0A", "00000000:0050 00000000:0000 01"), map[int]bool{6443: true}},
		{tcpTable("00000000:FFFF 00000000:0000 0A", "00000000:0000 00000000:0000 0A"), map[int]bool{65535: true, 0: true}},
		{tcpTable("00000000:1FFFF 00000000:0000 0A", "00000000 00000000:0000 0A", ":: : 0A", "x:y z 0A"), map[int]bool{}},
	} {
		got := map[int]bool{}
		facts.Listening(c.table, got)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\ngot %v, want %v", c.table, got, c.want)
		}
	}
}

func FuzzListening(f *testing.F) {
	f.Add(tcpTable("0100007F:0277 00000000:0000 0A", "00000000:0016 00000000:0000 0A"), uint16(22))
	f.Add("   0: :\x00 0A 0A", uint16(0))
	f.Add(strings.Repeat("x", 70_000), uint16(10250))
	f.Fuzz(func(t *testing.T, table string, port uint16) {
		ports := map[int]bool{}
		facts.Listening(table, ports)
		for p := range ports {
			if p < 0 || p > 65535 || !strings.Contains(strings.ToUpper(table), fmt.Sprintf("%X", p)) {
				t.Errorf("%.300q: port %d", table, p)
			}
		}
		// Whatever else is in the table, a row that says so is believed.
		facts.Listening(table+"\n"+tcpTable(fmt.Sprintf("00000000:%04X 00000000:0000 0A", port)), ports)
		if !ports[int(port)] {
			t.Errorf("%.300q hides port %d", table, port)
		}
	})
}

func FuzzAdvertised(f *testing.F) {
	f.Add(routes("eth0 00450003", "eth1 00000003"))
	f.Add("0 1 2 3 4 5 6 7 ffffffffff lo\n")
	f.Fuzz(func(t *testing.T, table string) {
		links := facts.Advertised(table)
		for i, l := range links {
			if !strings.Contains(table, l) || i > 0 && links[i-1] >= l {
				t.Errorf("%q: %q", table, links)
			}
		}
		// Whatever else is in the table, a row that says so is believed.
		if with := facts.Advertised(table + "\n" + routes("eth0 00450003")); !slices.Contains(with, "eth0") {
			t.Errorf("%q hides eth0: %q", table, with)
		}
	})
}

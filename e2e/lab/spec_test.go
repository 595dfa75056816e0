// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestAddressOf(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"cp-1", "10.77.0.11"},
		{"cp-9", "10.77.0.19"},
		{"w-1", "10.77.0.21"},
		{"w-234", "10.77.0.254"},
		{"cp-10", `machine "cp-10": number is above 9, the network has no address for it`},
		{"w-235", `machine "w-235": number is above 234, the network has no address for it`},
		{"w-0", `machine "w-0": name is not cp-N or w-N`},
		{"w-01", `machine "w-01": name is not cp-N or w-N`},
		{"../x", `machine "../x": name is not cp-N or w-N`},
		{"", `machine "": name is not cp-N or w-N`},
	} {
		a, err := addressOf(c.name)
		got := a.String()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAddress6Of(t *testing.T) {
	for address, want := range map[string]string{
		gatewayAddress: "fd77::1", "10.77.0.11": "fd77::11", "10.77.0.19": "fd77::19", "10.77.0.100": "fd77::100", "10.77.0.254": "fd77::254",
	} {
		got := address6Of(netip.MustParseAddr(address))
		if got.String() != want || !netip.MustParsePrefix(networkPrefix6).Contains(got) {
			t.Errorf("%s: got %s, want %s of %s", address, got, want, networkPrefix6)
		}
	}
}

func TestEveryMachineHasItsOwnAddressAndDevices(t *testing.T) {
	seen := map[string]string{gatewayAddress: "gateway"}
	for _, m := range Standard(9, 234, 0, 0) {
		address, err := addressOf(m.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{address.String(), address6Of(address).String(), macOf(address), tapOf(address)} {
			if other, taken := seen[key]; taken {
				t.Fatalf("%s and %s share %s", m.Name, other, key)
			}
			seen[key] = m.Name
		}
		if len(tapOf(address)) > 15 {
			t.Errorf("device name %s is longer than the kernel allows", tapOf(address))
		}
	}
}

func TestSpecDefaults(t *testing.T) {
	got, err := Spec{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{Name: "demo", Kubernetes: "1.36.3", Machines: []Machine{
		{Name: "cp-1", Roles: []string{"control-plane", "etcd"}, MemoryMiB: 2048},
		{Name: "w-1", Roles: []string{"worker"}, MemoryMiB: 2048},
		{Name: "w-2", Roles: []string{"worker"}, MemoryMiB: 2048},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSpecDoesNotChangeItsInput(t *testing.T) {
	machines := []Machine{{Name: "w-1"}}
	if _, err := (Spec{Machines: machines}).withDefaults(); err != nil {
		t.Fatal(err)
	}
	if machines[0].MemoryMiB != 0 {
		t.Error("the caller's machine was filled in")
	}
}

func TestSpecReportsEveryFault(t *testing.T) {
	_, err := Spec{Name: "Not A Name", Machines: []Machine{
		{Name: "x"}, {Name: "w-1", MemoryMiB: 8}, {Name: "w-2", Roles: []string{"wroker"}}, {Name: "w-3"}, {Name: "w-3"},
	}}.withDefaults()
	for _, want := range []string{
		`lab name "Not A Name"`, `machine "x": name is not`, "machine w-1: 8 MiB of memory", `machine w-2: role "wroker"`, "machine w-3: named twice",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("missing %q in: %v", want, err)
		}
	}
}

func TestStandardSparesComeAfterWorkers(t *testing.T) {
	var got []string
	for _, m := range Standard(3, 1, 2, 512) {
		got = append(got, fmt.Sprint(m.Name, " ", m.MemoryMiB, " ", m.Spare))
	}
	want := []string{"cp-1 512 false", "cp-2 512 false", "cp-3 512 false", "w-1 512 false", "w-2 512 true", "w-3 512 true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMergeKeepsWhatIsThere(t *testing.T) {
	before := threeMachines(t)
	spec := Spec{Name: "demo", Machines: Standard(2, 2, 0, 1024)}
	spec, err := spec.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	after, err := merge(t.Context(), before, spec)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range after.Machines {
		names = append(names, m.Name)
	}
	if want := []string{"cp-1", "cp-2", "w-1", "w-2"}; !slices.Equal(names, want) {
		t.Fatalf("machines %v, want %v", names, want)
	}
	kept, added := after.Machines[0], after.Machines[1]
	if kept.SSHPort != 40001 || kept.HostKey == "" || after.APIPort != 40000 {
		t.Errorf("ports or key changed: %+v, API %d", kept, after.APIPort)
	}
	if added.SSHPort == 0 || added.HostKey != "" {
		t.Errorf("the new machine needs a port and has no key yet: %+v", added)
	}
	if after.Machines[3].Spare || after.Machines[3].MemoryMiB != 1024 {
		t.Errorf("w-2 is no spare any more and has 1024 MiB: %+v", after.Machines[3])
	}
}

func TestMergeRefusesToDropAMachine(t *testing.T) {
	spec, err := Spec{Name: "demo", Machines: Standard(1, 1, 0, 0)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	_, err = merge(t.Context(), threeMachines(t), spec)
	if err == nil || !strings.Contains(err.Error(), "w-2") || !strings.Contains(err.Error(), "lab down") {
		t.Errorf("got %v, want an error that names w-2 and the way out", err)
	}
}

func TestOvercommitted(t *testing.T) {
	machines := Standard(1, 2, 0, 1024)
	if got := overcommitted(machines, 3<<30); got != "" {
		t.Errorf("exactly enough: %s", got)
	}
	if got := overcommitted(machines, 3<<30-1); !strings.Contains(got, "3072 MiB") || !strings.Contains(got, "3071") {
		t.Errorf("too little: %q", got)
	}
}

func TestPortsDiffer(t *testing.T) {
	r := threeMachines(t)
	r.APIPort = 0
	for i := range r.Machines {
		r.Machines[i].SSHPort = 0
	}
	if err := r.choosePorts(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{0: true}
	for _, route := range r.routes() {
		if seen[route.port] {
			t.Errorf("port %d is missing or taken twice", route.port)
		}
		seen[route.port] = true
	}
}

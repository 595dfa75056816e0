// SPDX-License-Identifier: Apache-2.0

//go:build vm

package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// vmName keeps the test's lab apart from a person's.
const vmName = "labtest"

// TestVM boots two machines (go test -tags vm, as root) and shows what the
// package promises. Its steps build on each other.
func TestVM(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	self := must[string](t)(os.Executable())
	spec := Spec{Name: vmName, Machines: Standard(1, 1, 0, 512), Forwarder: []string{self, "forward"}}
	if err := Down(t.Context(), vmName); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	before := leftovers(t)
	v := vm{t, must[*Lab](t)(Up(t.Context(), spec, func(e Event) { t.Log(e) }))}
	t.Cleanup(func() {
		if err := v.lab.Down(context.Background()); err != nil {
			t.Error(err)
		}
		if after := leftovers(t); !slices.Equal(after, before) {
			t.Errorf("left behind:\nbefore %q\nafter  %q", before, after)
		}
	})
	for _, step := range []struct {
		name string
		run  func(vm)
	}{
		{"kernel", vm.kernel}, {"identity", vm.identity}, {"units", vm.units},
		{"up again", func(v vm) { v.upAgain(spec) }},
		{"transfer", vm.transfer}, {"pause", vm.pause}, {"cut", vm.cut}, {"reboot", vm.reboot}, {"reboot by force", vm.rebootByForce},
		{"stop", vm.stop}, {"kill", vm.kill}, {"lost process file", vm.lostProcessFile},
		{"lost forwarder", func(v vm) { v.lostForwarder(spec) }},
		{"add", func(v vm) { v.add(spec) }},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(vm{t, v.lab}) }) {
			return
		}
	}
}

// TestVMCutShort ends Up at each of its steps: afterwards Down leaves nothing,
// or another Up goes on.
func TestVMCutShort(t *testing.T) {
	self := must[string](t)(os.Executable())
	spec := Spec{Name: vmName, Machines: Standard(1, 0, 0, 512), Forwarder: []string{self, "forward"}}
	if err := Down(t.Context(), vmName); err != nil {
		t.Fatal(err)
	}
	before := leftovers(t)
	const events = 3 // network, waiting, up
	for cut := range events {
		if err := upUntil(t, spec, cut); err == nil && cut < events-1 {
			t.Errorf("cut at event %d, but Up went through", cut)
		}
		if cut == 1 {
			if _, err := Up(t.Context(), spec, nil); err != nil {
				t.Errorf("cut at event %d: up again: %v", cut, err)
			}
		}
		if err := Down(t.Context(), vmName); err != nil {
			t.Errorf("cut at event %d: down: %v", cut, err)
		}
		if after := leftovers(t); !slices.Equal(after, before) {
			t.Errorf("cut at event %d: left behind:\nbefore %q\nafter  %q", cut, before, after)
		}
	}
}

// upUntil cancels Up while it tells its n-th event.
func upUntil(t *testing.T, spec Spec, n int) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	_, err := Up(ctx, spec, func(Event) {
		if seen == n {
			cancel()
		}
		seen++
	})
	return err
}

type vm struct {
	*testing.T
	lab *Lab
}

func (v vm) run(name, command string) string {
	v.Helper()
	out, err := v.lab.Run(v.Context(), name, command)
	if err != nil {
		v.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (v vm) ok(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

func (v vm) state(name string) State {
	v.Helper()
	for _, m := range must[[]Status](v.T)(v.lab.Machines()) {
		if m.Name == name {
			return m.State
		}
	}
	v.Fatalf("no machine %s", name)
	return ""
}

// kernel: each of these is something Kubernetes, its CNI or the proxier does.
func (v vm) kernel() {
	for what, command := range map[string]string{
		"IPVS":            "ipvsadm -A -t 10.96.0.1:443 -s rr && ipvsadm -a -t 10.96.0.1:443 -r 10.77.0.11:6443 -m && ipvsadm -Ln && ipvsadm -C",
		"IPVS over IPv6":  "ipvsadm -A -t [fd00::1]:443 -s mh && ipvsadm -C",
		"nftables":        `nft 'add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; add rule inet t c fib daddr type local meta mark 1 masquerade' && nft delete table inet t`,
		"nftables tuples": `nft 'add table inet t; add set inet t s { type ipv4_addr . inet_proto . inet_service; }; add element inet t s { 10.0.0.1 . tcp . 80 }' && nft delete table inet t`,
		"iptables":        "iptables -t nat -A PREROUTING -m comment --comment c -p tcp -m multiport --dports 80,81 -j DNAT --to 10.0.0.1 && iptables -t nat -F",
		"ipset":           "ipset create s hash:ip,port && ipset destroy s",
		"VXLAN":           "ip link add x type vxlan id 1 dstport 8472 dev vec0 && ip link del x",
		"veth and netns":  "ip netns add n && ip link add name a type veth peer name b netns n && ip netns del n",
		"dummy":           "ip link add kube-ipvs0 type dummy && ip link del kube-ipvs0",
		"bridge filter":   "modprobe br_netfilter && ip link add x type bridge && sysctl net.bridge.bridge-nf-call-iptables && ip link del x",
		"overlay": "mkdir -p /tmp/o/l /tmp/o/u /tmp/o/w /tmp/o/m && mount -t overlay o -o lowerdir=/tmp/o/l,upperdir=/tmp/o/u,workdir=/tmp/o/w /tmp/o/m" +
			" && touch /tmp/o/m/f && test -e /tmp/o/u/f && umount /tmp/o/m",
		"seccomp":                      "grep Seccomp_filters /proc/self/status",
		"modprobe of what is built in": "modprobe -a ip_vs ip_vs_rr overlay vxlan nf_conntrack",
		"conntrack":                    "conntrack -L && conntrack -F",
		"netem":                        "tc qdisc add dev vec0 root netem delay 1ms && tc qdisc del dev vec0 root",
		"clock rate for the kubelet":   "grep 'cpu MHz' /proc/cpuinfo",
	} {
		if _, err := v.lab.Run(v.Context(), "w-1", command); err != nil {
			v.Errorf("%s: %v", what, err)
		}
	}
	controllers := strings.Fields(v.run("w-1", "cat /sys/fs/cgroup/cgroup.controllers"))
	for _, want := range []string{"cpu", "io", "memory", "pids"} {
		if !slices.Contains(controllers, want) {
			v.Errorf("cgroup v2 has %q, not %s", controllers, want)
		}
	}
	if links := v.run("w-1", "ip -br link | cut -d' ' -f1 | xargs"); links != "lo vec0" {
		v.Errorf("devices of a new machine: %s", links)
	}
}

func (v vm) identity() {
	for _, command := range []string{"cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub", "cat /sys/class/net/vec0/address", "hostname"} {
		if a, b := v.run("cp-1", command), v.run("w-1", command); a == b {
			v.Errorf("%s: both say %s", command, a)
		}
	}
	if name := v.run("w-1", "hostname"); name != "w-1" {
		v.Errorf("w-1 is called %s", name)
	}
	v.run("cp-1", "ping -c 1 -W 2 10.77.0.21")
	v.run("w-1", "ping -c 1 -W 2 10.77.0.1")
	if _, err := v.lab.Run(v.Context(), "w-1", "exit 7"); err != nil {
		var exit *ssh.ExitError
		if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
			v.Errorf("exit status of a command: %v", err)
		}
	} else {
		v.Error("a command that failed gave no error")
	}
}

func (v vm) units() {
	if failed := v.run("w-1", "systemctl is-system-running --wait; systemctl list-units --failed --no-legend --plain"); failed != "running" {
		v.Errorf("systemd: %s", failed)
	}
}

func (v vm) upAgain(spec Spec) {
	boot := v.run("w-1", "cat /proc/sys/kernel/random/boot_id")
	begun := time.Now()
	if _, err := Up(v.Context(), spec, nil); err != nil {
		v.Fatal(err)
	}
	v.Logf("up of a running lab took %v", time.Since(begun))
	if v.run("w-1", "cat /proc/sys/kernel/random/boot_id") != boot {
		v.Error("a running machine was started again")
	}
}

// transfer: without gro, large segments are lost and this never ends.
func (v vm) transfer() {
	begun := time.Now()
	sum := v.run("cp-1", "dd if=/dev/urandom of=/tmp/f bs=1M count=64 2>/dev/null; sha256sum </tmp/f")
	out := must[string](v.T)(v.lab.Run(v.Context(), "cp-1", "cat /tmp/f"))
	v.Logf("64 MiB made and sent in %v", time.Since(begun))
	if got := fmt.Sprintf("%x  -", sha256.Sum256([]byte(out))); got != sum {
		v.Errorf("%d bytes arrived with sum %s, sent %s", len(out), got, sum)
	}
	v.run("cp-1", "rm /tmp/f")
}

func (v vm) pause() {
	boot := v.run("w-1", "cat /proc/sys/kernel/random/boot_id")
	v.ok(v.lab.Pause(v.Context(), "w-1"))
	if s := v.state("w-1"); s != Paused {
		v.Errorf("w-1 is %s", s)
	}
	v.silent("w-1")
	v.ok(v.lab.Resume(v.Context(), "w-1"))
	if v.run("w-1", "cat /proc/sys/kernel/random/boot_id") != boot {
		v.Error("it rebooted")
	}
}

// silent checks that nothing comes back from a machine.
func (v vm) silent(name string) {
	v.Helper()
	ctx, cancel := context.WithTimeout(v.Context(), 2*time.Second)
	defer cancel()
	if out, err := v.lab.Run(ctx, name, "uptime"); err == nil {
		v.Errorf("%s answers: %s", name, out)
	}
}

func (v vm) cut() {
	v.ok(v.lab.Cut(v.Context(), "w-1"))
	v.silent("w-1")
	if _, err := v.lab.Run(v.Context(), "cp-1", "ping -c 1 -W 1 10.77.0.21"); err == nil {
		v.Error("cp-1 still reaches w-1")
	}
	v.ok(v.lab.Mend(v.Context(), "w-1"))
	v.ok(v.lab.WaitSSH(v.Context(), "w-1"))
	v.run("cp-1", "ping -c 1 -W 2 10.77.0.21")
}

func (v vm) reboot() {
	v.run("w-1", "echo kept >/var/lib/kept")
	for range 2 {
		begun := time.Now()
		v.ok(v.lab.Reboot(v.Context(), "w-1"))
		v.Logf("reboot took %v", time.Since(begun))
	}
	if got := v.run("w-1", "cat /var/lib/kept"); got != "kept" {
		v.Errorf("its disk says %q", got)
	}
	v.run("cp-1", "ping -c 1 -W 2 10.77.0.21")
}

// rebootByForce leaves no time to take the network down.
func (v vm) rebootByForce() {
	boot := v.run("w-1", "cat /proc/sys/kernel/random/boot_id")
	_, _ = v.lab.Run(v.Context(), "w-1", "reboot -f -f") // the connection ends with it
	within(v.T, time.Minute, "w-1 is back", func() bool {
		out, err := v.lab.Run(v.Context(), "w-1", "cat /proc/sys/kernel/random/boot_id")
		return err == nil && strings.TrimSpace(out) != boot
	})
}

func (v vm) stop() {
	v.run("w-1", "echo unsynced >/var/lib/kept")
	v.ok(v.lab.Stop(v.Context(), "w-1"))
	v.ok(v.lab.Stop(v.Context(), "w-1"))
	if s := v.state("w-1"); s != Stopped {
		v.Errorf("w-1 is %s", s)
	}
	v.silent("w-1")
	v.ok(v.lab.Start(v.Context(), "w-1"))
	if got := v.run("w-1", "cat /var/lib/kept"); got != "unsynced" {
		v.Errorf("its disk says %q", got)
	}
	if log := v.run("w-1", "dmesg"); strings.Contains(log, "recovery complete") {
		v.Error("the shutdown before was not clean")
	}
}

func (v vm) kill() {
	v.ok(v.lab.Kill(v.Context(), "w-1"))
	if s := v.state("w-1"); s != Stopped {
		v.Errorf("w-1 is %s", s)
	}
	v.ok(v.lab.Start(v.Context(), "w-1"))
	if log := v.run("w-1", "dmesg"); !strings.Contains(log, "recovery complete") {
		v.Error("the disk was clean: that was no loss of power")
	}
}

// lostProcessFile: a muster that was killed between the start of a machine and
// the note of it must not put two machines on one disk.
func (v vm) lostProcessFile() {
	p := must[Process](v.T)(loadProcess(v.lab.dir.machine("w-1", processFile)))
	v.ok(os.Remove(v.lab.dir.machine("w-1", processFile)))
	v.ok(v.lab.Start(v.Context(), "w-1"))
	if s := must[State](v.T)(p.State()); s != Stopped {
		v.Errorf("the machine that nobody noted is %s", s)
	}
	v.run("w-1", "true")
}

func (v vm) lostForwarder(spec Spec) {
	f := must[forwarderRecord](v.T)(v.lab.loadForwarder())
	v.ok(f.Process.signal(unix.SIGKILL))
	v.silent("w-1")
	if _, err := Up(v.Context(), spec, nil); err != nil {
		v.Fatal(err)
	}
	v.run("w-1", "true")
}

func (v vm) add(spec Spec) {
	boot := v.run("cp-1", "cat /proc/sys/kernel/random/boot_id")
	spec.Machines = Standard(1, 1, 1, 512)
	l, err := Up(v.Context(), spec, nil)
	if err != nil {
		v.Fatal(err)
	}
	*v.lab = *l
	if got := v.run("w-2", "hostname"); got != "w-2" {
		v.Errorf("the new machine says it is %s", got)
	}
	if v.run("cp-1", "cat /proc/sys/kernel/random/boot_id") != boot {
		v.Error("an old machine was started again")
	}
	if data := must[[]byte](v.T)(os.ReadFile(v.lab.Inventory())); !strings.Contains(string(data), "#  - {name: w-2,") || strings.Contains(string(data), "- name: w-2") {
		v.Errorf("the spare machine is not there as a comment:\n%s", data)
	}
}

// leftovers lists what a lab could leave on this computer: processes of its
// programs, namespaces, devices, mounts, listening sockets, files.
func leftovers(t *testing.T) []string {
	t.Helper()
	var all []string
	self := must[string](t)(os.Executable())
	root := must[string](t)(stateRoot())
	for _, pattern := range []string{
		filepath.Join(namespaceDir, "*"+vmName+"*"), filepath.Join(root, "*"+vmName+"*"), filepath.Join(root, "."+vmName+"*"),
		"/sys/class/net/tap*", "/sys/class/net/" + bridge, umlMemory + "/vm_file*",
	} {
		all = append(all, must[[]string](t)(filepath.Glob(pattern))...)
	}
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/self/mountinfo")))) {
		if strings.Contains(line, vmName) {
			all = append(all, line)
		}
	}
	for _, path := range must[[]string](t)(filepath.Glob("/proc/[0-9]*/cmdline")) {
		data, err := os.ReadFile(path)
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd"))
		if err == nil && (strings.Contains(cwd, "/"+vmName+"/machines/") || strings.HasPrefix(string(data), self+"\x00forward\x00")) {
			all = append(all, path+" "+string(data))
		}
	}
	slices.Sort(all)
	return all
}

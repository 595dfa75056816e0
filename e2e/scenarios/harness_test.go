// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-project/muster/e2e/lab"
)

// user is somebody with muster, kubectl, a lab and an inventory file.
type user struct {
	lab       *lab.Lab
	dir       string // with both programs
	inventory string // a copy that tests may change
	config    string // kubeconfig
	env       []string
}

// programs are built once for all tests.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	muster := filepath.Join(dir, "muster")
	build := exec.Command("go", "build", "-o", muster, "../../cmd/muster")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build muster: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"bundle", "build"}, {"bundle", "extract", "kubectl", "--to", dir}} {
		if out, err := exec.Command(muster, args...).CombinedOutput(); err != nil {
			t.Fatalf("muster %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return dir
}

// newUser boots a lab and hands it to somebody.
func newUser(t *testing.T, spec lab.Spec) *user {
	t.Helper()
	dir := programs(t)
	ctx := t.Context()
	if err := lab.Down(ctx, spec.Name); err != nil {
		t.Fatalf("take an earlier lab down: %v", err)
	}
	spec.Forwarder = []string{filepath.Join(dir, "muster"), "lab", "forward"}
	l, err := lab.Up(ctx, spec, func(e lab.Event) { t.Log(e) })
	if err != nil {
		t.Fatalf("boot the lab: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("MUSTER_E2E_KEEP") != "" {
			t.Logf("lab %s is left up", spec.Name)
			return
		}
		if err := l.Down(context.Background()); err != nil {
			t.Errorf("take the lab down: %v", err)
		}
	})
	u := &user{lab: l, dir: dir, inventory: filepath.Join(dir, "muster.yaml"), config: filepath.Join(dir, "kubeconfig")}
	data, err := os.ReadFile(l.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.inventory, data, 0o600); err != nil {
		t.Fatal(err)
	}
	u.env = append(os.Environ(), "MUSTER_INVENTORY="+u.inventory, "KUBECONFIG="+u.config)
	return u
}

// result is what a command came to.
type result struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("exit %d after %.1fs\n-- stdout\n%s-- stderr\n%s", r.code, r.took.Seconds(), r.stdout, r.stderr)
}

// run runs a program to its end; interrupt, if not zero, is when Ctrl-C comes.
func (u *user) run(t *testing.T, program string, interruptAt string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(u.dir, program), args...)
	cmd.Env = u.env
	var stdout bytes.Buffer
	stderr := watcher{want: interruptAt, hit: func() { _ = cmd.Process.Signal(syscall.SIGINT) }}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	r := result{stdout: stdout.String(), stderr: stderr.seen.String(), took: time.Since(start)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return r
}

// watcher keeps what is written and acts once when a text has been seen.
type watcher struct {
	seen bytes.Buffer
	want string
	hit  func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.seen.Write(p)
	if w.want != "" && strings.Contains(w.seen.String(), w.want) {
		w.want = ""
		w.hit()
	}
	return n, err
}

// muster runs muster, which must succeed.
func (u *user) muster(t *testing.T, args ...string) result {
	t.Helper()
	r := u.run(t, "muster", "", args...)
	if r.code != 0 {
		t.Fatalf("muster %s: %s", strings.Join(args, " "), r)
	}
	return r
}

// kubectl runs kubectl, which must succeed, and returns what it printed.
func (u *user) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	r := u.run(t, "kubectl", "", args...)
	if r.code != 0 {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), r)
	}
	return strings.TrimSpace(r.stdout)
}

// on runs a shell command on a machine by the system's own ssh, apart from
// everything that muster does.
func (u *user) on(t *testing.T, machine, command string) string {
	t.Helper()
	out, err := u.lab.Run(t.Context(), machine, command)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", machine, command, err, out)
	}
	return strings.TrimSpace(out)
}

// eventually asks until the answer is nil or the time is over.
func eventually(t *testing.T, within time.Duration, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// state describes a machine by its own tools, not by muster's snapshot: two
// descriptions of an untouched machine are equal.
const state = `
find /etc /opt /usr/local /root /home -xdev \( -path /etc/mtab -o -name '*-' -path '/etc/*' -o -name .pwd.lock \) -prune -o -printf '%p %M %u %l\n' | sort
find /var/lib /var/log /run -xdev -maxdepth 1 -printf '%p %M %u\n' | sort
find /etc -xdev -type f ! -name '*-' ! -name .pwd.lock -exec sha256sum {} + | sort -k2
ip -o link | sed 's/^[0-9]*: //; s/ qlen.*//; s/@.*mtu/ mtu/'
ip -o addr | awk '{print $2, $3, $4}'
ip route show table all | sed 's/expires [0-9a-z]*//' | sort; ip -6 route show table all | sed 's/expires [0-9a-z]*//' | sort
ip rule; ip -6 rule
nft list ruleset
iptables-save | grep -v '^[#:]' ; ip6tables-save | grep -v '^[#:]'
ipvsadm -Sn
ipset list -n 2>/dev/null
awk '{print $5}' /proc/self/mountinfo | sort
systemctl list-unit-files --no-legend --no-pager | awk '{print $1, $2}' | sort
systemctl list-units --no-legend --no-pager --plain --type=service,slice,scope --state=active,failed,activating | awk '{print $1}' | grep -v -e session -e user@ -e user-runtime -e systemd- -e user-0 | sort
sysctl -a 2>/dev/null | grep -E '^(net.ipv4.(ip_forward|vs)|net.bridge|vm.overcommit_memory|vm.panic_on_oom|kernel.panic|fs.inotify|kernel.keys|net.ipv4.conf.(all|default).(rp_filter|route_localnet|arp)|net.ipv6.conf.(all|default|vec0).(forwarding|accept_ra) )' | grep -v sync_qlen_max
getent passwd; getent group
ip netns list
find /sys/fs/cgroup -maxdepth 2 -type d | grep -v -e user -e session -e systemd- | sort
`

func (u *user) states(t *testing.T, machines ...string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, m := range machines {
		all[m] = u.on(t, m, state)
	}
	return all
}

// difference shows which lines two texts do not share.
func difference(before, after string) string {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var out strings.Builder
	for line, n := range count {
		switch {
		case n < 0:
			out.WriteString("- " + line)
		case n > 0:
			out.WriteString("+ " + line)
		}
	}
	return out.String()
}

// SPDX-License-Identifier: Apache-2.0

//go:build vm

package scenarios

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// join adds a host to the file and to the cluster; the others are not touched.
func (u *user) join(t *testing.T) {
	machines, err := u.lab.Machines()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(u.inventory, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		if m.Name == "w-3" {
			fmt.Fprintf(f, "  - name: w-3\n    address: %s\n    roles: [worker]\n    zone: b\n    labels: {disk: ssd}\n    ssh: {host: 127.0.0.1, port: %d}\n", m.Address, m.SSHPort)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	const journal = "sha256sum /var/lib/muster/journal.ndjson; find /etc -newer /var/lib/muster/journal.ndjson -type f"
	before := map[string]string{"cp-1": u.on(t, "cp-1", journal), "w-1": u.on(t, "w-1", journal), "w-2": u.on(t, "w-2", journal)}
	r := u.muster(t, "join", "w-3")
	t.Log(r)
	u.allReady(t, "cp-1", "w-1", "w-2", "w-3")
	for _, m := range []string{"w-1", "w-2"} {
		if now := u.on(t, m, journal); now != before[m] {
			t.Errorf("join touched %s:\n%s\n%s", m, before[m], now)
		}
	}
	if got := u.kubectl(t, "get", "node", "w-3", "-o", `jsonpath={.metadata.labels.disk} {.metadata.labels.topology\.kubernetes\.io/zone}`); got != "ssd b" {
		t.Errorf("labels of w-3: %q", got)
	}
	if got := u.on(t, "w-3", "curl -sS -m 5 http://10.77.0.23:30080/hostname"); !strings.HasPrefix(got, "hello-") {
		t.Errorf("NodePort on w-3: %q", got)
	}
}

// reboot takes a machine through a reboot; then its services answer again and
// apply finds nothing to do.
func (u *user) reboot(t *testing.T, machine string) {
	boot := u.on(t, machine, "cat /proc/sys/kernel/random/boot_id")
	if err := u.lab.Reboot(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	if now := u.on(t, machine, "cat /proc/sys/kernel/random/boot_id"); now == boot {
		t.Fatal("it has not rebooted")
	}
	eventually(t, 3*time.Minute, "everything runs again", func() error {
		if r := u.run(t, "muster", "", "status"); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	eventually(t, 2*time.Minute, "the Service answers on every host", func() error {
		for _, ip := range []string{"10.77.0.11", "10.77.0.21", "10.77.0.22", "10.77.0.23"} {
			if out, err := u.lab.Run(t.Context(), machine, "curl -sS -m 5 http://"+ip+":30080/hostname"); err != nil || !strings.HasPrefix(out, "hello-") {
				return fmt.Errorf("%s: %q, %w", ip, out, err)
			}
		}
		return nil
	})
	eventually(t, time.Minute, "names resolve in pods", func() error {
		pods := u.pods(t, "app=hello")
		if len(pods) == 0 {
			return fmt.Errorf("no pod")
		}
		if r := u.run(t, "kubectl", "", "exec", pods[0].name, "--", "nslookup", "hello.default.svc.cluster.local"); r.code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if r := u.muster(t, "apply"); !strings.Contains(r.stdout, "nothing written") {
		t.Errorf("apply after the reboot: %s", r)
	}
}

// SPDX-License-Identifier: Apache-2.0

package inventory_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func inputs(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no inputs in testdata: %v", err)
	}
	return paths
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// thousand is an inventory of 1000 hosts.
func thousand() []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: muster/v1\ncluster: big\nkubernetes: 1.36.3\nnetwork: {pods: [10.0.0.0/8], services: [172.16.0.0/16]}\nhosts:\n")
	fmt.Fprintln(&b, "- {name: cp, address: 192.168.0.1, roles: [control-plane, etcd]}")
	for i := 1; i < 1000; i++ {
		fmt.Fprintf(&b, "- {name: w-%d, address: 192.168.%d.%d, roles: [worker], zone: z%d}\n", i, 1+i/200, 1+i%200, i%3)
	}
	return b.Bytes()
}

// SPDX-License-Identifier: Apache-2.0

package ssh_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/muster-project/muster/remote"
	"github.com/muster-project/muster/remote/ssh"
	"github.com/muster-project/muster/remote/sshtest"
)

// manyKnown is a known_hosts text with n more machines, hashed as Debian does.
func manyKnown(t testing.TB, n int) string {
	var b strings.Builder
	key := strings.TrimSpace(string(xssh.MarshalAuthorizedKey(sshtest.NewSigner(t).PublicKey())))
	for i := range n {
		fmt.Fprintln(&b, knownhosts.HashHostname(fmt.Sprintf("10.1.%d.%d", i/250, i%250)), key)
	}
	return b.String()
}

// BenchmarkDial measures both ends of a connection and one command, in one process.
func BenchmarkDial(b *testing.B) {
	for _, known := range []int{1, 1000} {
		b.Run(fmt.Sprintf("known=%d", known), func(b *testing.B) {
			f := newFixture(b, func(c *sshtest.Config) { c.Exec = sshtest.Table(map[string]string{"true": ""}) })
			f.knows(b, manyKnown(b, known-1)+sshtest.KnownHosts(f.server))
			for b.Loop() {
				c, err := ssh.Dial(b.Context(), f.host(), f.options())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Run(b.Context(), remote.Cmd{Argv: []string{"true"}}); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

func BenchmarkRun(b *testing.B) {
	c := newFixture(b, func(c *sshtest.Config) { c.Exec = sshtest.Table(map[string]string{"true": ""}) }).dial(b)
	for b.Loop() {
		if _, err := c.Run(b.Context(), remote.Cmd{Argv: []string{"true"}}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestManyAtOnce shares one connection among many callers.
func TestManyAtOnce(t *testing.T) {
	c := newFixture(t, nil).dial(t)
	var work sync.WaitGroup
	for i := range 50 {
		work.Go(func() {
			word := fmt.Sprint("word", i)
			res, err := c.Run(t.Context(), remote.Cmd{Argv: []string{"cat"}, Stdin: []byte(word)})
			if err != nil || string(res.Stdout) != word {
				t.Errorf("%s: got %q, %v", word, res.Stdout, err)
			}
		})
	}
	work.Wait()
}

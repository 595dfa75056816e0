// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/muster-project/muster/remote"
)

// shell gives the words a real /bin/sh makes of a command line.
func shell(t testing.TB, line string) string {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-c", `printf '%s\000' `+line).Output()
	if err != nil {
		t.Fatalf("sh does not read %q: %v", line, err)
	}
	return string(out)
}

func checkQuote(t testing.TB, argv []string) {
	t.Helper()
	line, err := remote.Quote(argv)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shell(t, line), strings.Join(argv, "\x00")+"\x00"; got != want {
		t.Errorf("Quote(%q) = %s\nsh reads %q", argv, line, got)
	}
}

func TestQuote(t *testing.T) {
	for _, arg := range []string{
		"", "plain", "two words", "it's", `"`, `\`, `\'`, "$HOME", "`id`", "a\nb", "*", "~", "~root", "!x", "a=b", "#", "-n",
		"ä€", "\xff\xfe", "'; rm -rf /; '", "{a,b}", "&", ";", "|", "<", "\t", "\r",
	} {
		checkQuote(t, []string{arg, "x"})
	}
	for _, argv := range [][]string{nil, {}, {"a", "b\x00c"}} {
		if line, err := remote.Quote(argv); err == nil {
			t.Errorf("Quote(%q) = %q; want an error", argv, line)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("a'b", `\'`)
	f.Add("", "$(id)\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") {
			t.Skip("no argument can have a NUL byte")
		}
		checkQuote(t, []string{a, b})
	})
}

func TestMask(t *testing.T) {
	c := remote.Cmd{
		Argv:    []string{"join", "--token", "abc.def", "--password=it's me", "abc.defghi"},
		Secrets: []string{"", "abc.def", "it's me", "abc.defghi"},
	}
	want := `join --token '***' '--password=***' '***'`
	if got := c.String(); got != want {
		t.Errorf("printed as\n%s\nwant\n%s", got, want)
	}
	for _, text := range []string{"bad token abc.def", `sh: 'it'\''s me': not found`} {
		if got := c.Mask(text); strings.Contains(got, "abc") || strings.Contains(got, "me") {
			t.Errorf("Mask(%q) = %q", text, got)
		}
	}
	if c.Argv[2] != "abc.def" {
		t.Errorf("masking changed the command: %q", c.Argv)
	}
}

func TestExitError(t *testing.T) {
	for want, e := range map[string]*remote.ExitError{
		"false: exit code 1":            {Cmd: "false", Code: 1},
		"cat /x: exit code 1: no /x":    {Cmd: "cat /x", Code: 1, Stderr: "no /x\n"},
		"sleep 9: signal KILL: bad day": {Cmd: "sleep 9", Code: -1, Signal: "KILL", Stderr: "bad day"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q; want %q", got, want)
		}
	}
}

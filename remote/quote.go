// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"strings"
)

// Quote gives the command line that a POSIX shell splits into exactly argv.
// SSH hands commands to the user's shell as one text, so this is the only place
// where arguments meet a shell.
func Quote(argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("quote a command: it has no words")
	}
	words := make([]string, len(argv))
	for i, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return "", fmt.Errorf("quote argument %d of %s: it has a NUL byte, which no argument can have", i, argv[0])
		}
		words[i] = quote(arg)
	}
	return strings.Join(words, " "), nil
}

// quote leaves plain words as they are, so that logs stay readable.
func quote(arg string) string {
	if arg != "" && !strings.ContainsFunc(arg, special) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// special tells what some shell might read as more than itself. That includes
// "=", which makes a first word an assignment, and "~", special only at the start
// of a word: quoting both everywhere is simpler.
func special(c rune) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:,@+", c)
}

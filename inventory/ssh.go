// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"

	"github.com/muster-project/muster/internal/nearest"
)

// maxHops bounds a chain of bastions. Also, an anchored mapping can hold
// itself, and this ends the walk.
const maxHops = 4

// sshText is an ssh section as written: what is open is nil or zero.
type sshText struct {
	SSH     // without Agent, Bastion
	agent   *bool
	bastion *sshText
	direct  bool // "bastion: none"
}

// sshScope says where an ssh section stands.
type sshScope int

const (
	defaultsOnly sshScope = iota // at the top: what belongs to one machine is refused
	oneHost
	hop
)

// ssh reads an ssh section; hops counts the bastions around it.
func (r *reader) ssh(v value, scope sshScope) sshText { return r.sshAt(v, scope, 0) }

func (r *reader) sshAt(v value, scope sshScope, hops int) sshText {
	var s sshText
	one := func(to *string, read func(value) string) func(value) {
		return func(v value) {
			if scope == defaultsOnly {
				r.fault(v.path, "write it into the host's own ssh", "belongs to one host")
			}
			*to = read(v)
		}
	}
	r.mapping(v, map[string]func(value){
		"host":    one(&s.Host, r.sshHost),
		"hostKey": one(&s.HostKey, r.hostKey),
		"port":    func(v value) { s.Port = r.port(v) },
		"user":    func(v value) { s.User = r.user(v) },
		"key":     func(v value) { s.Keys = r.paths(v, s.Keys) },
		"keys":    func(v value) { s.Keys = r.paths(v, s.Keys) },
		"agent": func(v value) {
			if b, ok := r.boolean(v); ok {
				s.agent = &b
			}
		},
		"knownHosts":   func(v value) { s.KnownHosts = r.paths(v, nil) },
		"firstContact": func(v value) { s.FirstContact = r.firstContact(v) },
		"bastion":      func(v value) { s.bastion, s.direct = r.bastion(v, hops+1) },
	})
	if scope == hop && !r.given(v.path+".host") {
		r.fault(v.path, "", "host is missing")
	}
	return s
}

// bastion reads the hops before a host: a mapping like ssh, or the short form
// of OpenSSH's ProxyJump (user@host:port, several joined by commas, or none).
func (r *reader) bastion(v value, hops int) (b *sshText, direct bool) {
	if hops > maxHops {
		r.fault(v.path, "", "more than %d bastions in a row", maxHops)
		return nil, false
	}
	if n := follow(v.node); describe(n) == "a mapping" {
		s := r.sshAt(v, hop, hops)
		return &s, false
	}
	s := r.text(v)
	if s == "none" || s == "" {
		return nil, s == "none"
	}
	jumps := strings.Split(s, ",")
	if hops+len(jumps)-1 > maxHops {
		r.fault(v.path, "", "more than %d bastions in a row", maxHops)
		return nil, false
	}
	for _, jump := range jumps {
		j, ok := ParseJump(strings.TrimSpace(jump))
		if !ok {
			r.fault(v.path, "write it as ops@jump.example.org:22", "%q is not a bastion", jump)
			return nil, false
		}
		b = &sshText{SSH: j, bastion: b}
	}
	return b, false
}

// ParseJump reads one hop of OpenSSH's ProxyJump: [user@]host[:port], with an
// IPv6 address in brackets when a port follows.
func ParseJump(s string) (SSH, bool) {
	var out SSH
	if i := strings.LastIndex(s, "@"); i >= 0 {
		out.User, s = s[:i], s[i+1:]
		if !validUser(out.User) {
			return SSH{}, false
		}
	}
	out.Host = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if host, port, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return SSH{}, false
		}
		out.Host, out.Port = host, n
	}
	return out, validSSHHost(out.Host)
}

func (r *reader) sshHost(v value) string {
	s := r.text(v)
	if s == "" || validSSHHost(s) {
		return s
	}
	hint := ""
	if j, ok := ParseJump(s); ok {
		hint = "user and port have keys of their own; write host: " + j.Host
	}
	r.fault(v.path, hint, "%q is neither a host name nor an IP address", s)
	return ""
}

// validSSHHost is wider than a DNS name, for aliases of ~/.ssh/config.
func validSSHHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.IsValid()
	}
	return len(s) <= 253 && len(content.IsDNS1123Subdomain(strings.ToLower(strings.ReplaceAll(s, "_", "-")))) == 0
}

func (r *reader) user(v value) string {
	s := r.text(v)
	if s != "" && !validUser(s) {
		r.fault(v.path, "", "%q is not a user name", s)
		return ""
	}
	return s
}

func validUser(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(c rune) bool { return !isWord(c) && c != '.' && c != '@' && c != '\\' && c != '$' })
}

// paths reads one path or a list of them.
func (r *reader) paths(v value, to []string) []string {
	add := func(v value) {
		switch s := r.text(v); {
		case s == "":
		case strings.ContainsAny(s, "\x00\n"):
			r.fault(v.path, "", "%q is not a path", s)
		case strings.HasPrefix(s, "~") && !strings.HasPrefix(s, "~/"):
			r.fault(v.path, "only ~/ is replaced, by your home directory", "%q is not a path this program can read", s)
		default:
			to = append(to, s)
		}
	}
	if describe(follow(v.node)) == "a list" {
		r.list(v, add)
	} else {
		add(v)
	}
	return to
}

func (r *reader) firstContact(v value) string {
	switch s := r.text(v); s {
	case "", Refuse, AcceptNew:
		return s
	case "no", "off", "yes", "true", "false":
		r.fault(v.path, fmt.Sprintf("write %s or %s; a changed key is refused always", Refuse, AcceptNew), "%q is not a first-contact policy", s)
	default:
		hint := fmt.Sprintf("policies: %s, %s", Refuse, AcceptNew)
		if near := nearest.One(s, []string{Refuse, AcceptNew}); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.fault(v.path, hint, "%q is not a first-contact policy", s)
	}
	return ""
}

// hostKey reads a public key as known_hosts and *.pub files have it; a comment
// behind it is dropped.
func (r *reader) hostKey(v value) string {
	s := r.text(v)
	if s == "" {
		return ""
	}
	parts := strings.Fields(s)
	if len(parts) >= 2 && embeddedKeyType(parts[1]) == parts[0] {
		return parts[0] + " " + parts[1]
	}
	r.fault(v.path, "copy the line of /etc/ssh/ssh_host_ed25519_key.pub on that host", "not a public key (type and base64)")
	return ""
}

// embeddedKeyType is the type a key's own bytes state (RFC 4253, section 6.6).
func embeddedKeyType(b64 string) string {
	data, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(data) < 4 {
		return ""
	}
	size := binary.BigEndian.Uint32(data)
	if uint64(size) > uint64(len(data)-4) {
		return ""
	}
	return string(data[4 : 4+size])
}

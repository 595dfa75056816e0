// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"github.com/muster-project/muster/internal/nearest"
)

// supportedMinor is the Kubernetes minor release this version installs.
const supportedMinor = "1.36"

// flannel is the only CNI this version installs.
const flannel = "flannel"

// label reads an RFC 1123 label.
func (r *reader) label(v value) string {
	return r.valid(v, content.IsDNS1123Label, "not a name: letters a-z, digits and -, at most 63, starting and ending with a letter or digit")
}

// dnsName reads an RFC 1123 subdomain: labels joined by dots.
func (r *reader) dnsName(v value) string {
	return r.valid(v, content.IsDNS1123Subdomain, "not a DNS name: letters a-z, digits, - and dots, at most 253")
}

func (r *reader) labelValue(v value) string {
	return r.valid(v, content.IsLabelValue, "not a label value: letters, digits, -, _ and dots, at most 63, starting and ending with a letter or digit")
}

// valid reads a text that a rule accepts. Kubernetes' rules answer with the
// regular expression; people are better served by a sentence.
func (r *reader) valid(v value, rule func(string) []string, problem string) string {
	s := r.text(v)
	if s == "" || len(rule(s)) == 0 {
		return s
	}
	hint := ""
	if lower := strings.ToLower(s); len(rule(lower)) == 0 {
		hint = fmt.Sprintf("write %q", lower)
	}
	r.fault(v.path, hint, "%q is %s", s, problem)
	return ""
}

func (r *reader) kubernetes(v value) string {
	s := r.text(v)
	number := `(0|[1-9][0-9]*)`
	form := regexp.MustCompile(`^v?(` + number + `\.` + number + `)\.` + number + `$`)
	m := form.FindStringSubmatch(s)
	switch {
	case s == "":
	case m == nil:
		r.fault(v.path, "write it as "+supportedMinor+".3", "%q is not a version of three numbers", s)
	case m[1] != supportedMinor:
		r.fault(v.path, "use a release of "+supportedMinor, "%q cannot be installed by this version", s)
	case s[0] == 'v':
		r.fault(v.path, fmt.Sprintf("write %q", s[1:]), "%q starts with a v", s)
	}
	return s
}

// runtime is read only to refuse what cannot be had: containerd is always used.
func (r *reader) runtime(v value) {
	switch s := r.text(v); s {
	case "", "containerd":
	case "docker", "dockershim", "cri-dockerd":
		r.fault(v.path, "remove this line: containerd runs the same images; for building images Docker may stay installed beside it",
			"%q is no longer a runtime: Docker was removed from Kubernetes in 1.24", s)
	default:
		r.fault(v.path, "remove this line or write containerd", "%q is not a runtime this version installs", s)
	}
}

func (r *reader) cni(v value) string {
	s := r.text(v)
	if s != "" && s != flannel {
		r.fault(v.path, "this version installs "+flannel, "%q is not a CNI this version installs", s)
	}
	return s
}

func (r *reader) prefix(v value, to []netip.Prefix) []netip.Prefix {
	s := r.text(v)
	if s == "" {
		return to
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		r.fault(v.path, "write it as 10.244.0.0/16", "%q is not a CIDR", s)
	case p != p.Masked():
		r.fault(v.path, fmt.Sprintf("write %s", p.Masked()), "%q has bits set to the right of its mask", s)
	default:
		return append(to, p)
	}
	return to
}

// hostAddresses reads one address or a list of them; none when one is at fault.
func (r *reader) hostAddresses(v value) []addressText {
	var all []addressText
	add := func(v value) { all = append(all, addressText{r.hostAddress(v), v.path}) }
	if follow(v.node).Kind != yaml.SequenceNode {
		add(v)
	} else if r.list(v, add); len(all) == 0 {
		r.fault(v.path, "write the address the cluster's hosts use among themselves", "no address")
	}
	if slices.ContainsFunc(all, func(a addressText) bool { return !a.IsValid() }) {
		return nil
	}
	return all
}

// hostAddress reads an address that other machines can reach.
func (r *reader) hostAddress(v value) netip.Addr {
	s := r.text(v)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		hint := ""
		if ap, err := netip.ParseAddrPort(s); err == nil {
			hint = fmt.Sprintf("write address: %s and ssh: {port: %d}", ap.Addr(), ap.Port())
		} else if p, err := netip.ParsePrefix(s); err == nil {
			hint = fmt.Sprintf("write %s", p.Addr())
		}
		r.fault(v.path, hint, "%q is not an IP address", s)
		return netip.Addr{}
	}
	a = a.Unmap()
	if a.Zone() != "" || !a.IsGlobalUnicast() {
		r.fault(v.path, "write the address the cluster's hosts use among themselves; where SSH connects to goes into ssh.host",
			"%s is not an address that other hosts can reach", s)
		return netip.Addr{}
	}
	return a
}

func (r *reader) role(v value, to []Role) []Role {
	s := r.text(v)
	role := Role(s)
	switch known := []string{string(ControlPlane), string(Etcd), string(Worker)}; {
	case s == "":
		return to
	case slices.Contains(to, role):
		r.fault(v.path, "remove it", "role %q is given twice", s)
	case slices.Contains(known, s):
		return append(to, role)
	default:
		hint := "roles: " + strings.Join(known, ", ")
		if near := nearest.One(s, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		} else if meant := otherRoleName(s); meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		r.fault(v.path, hint, "%q is not a role", s)
	}
	return to
}

// otherRoleName knows what other installers call the roles.
func otherRoleName(s string) Role {
	switch s {
	case "master", "controller", "server":
		return ControlPlane
	case "node", "agent", "minion":
		return Worker
	}
	return ""
}

// nameOrAddress reads a DNS name, possibly with a wildcard as certificates
// allow, or an IP address in its shortest form.
func (r *reader) nameOrAddress(v value) string {
	s := r.text(v)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return a.Unmap().String()
	}
	if s != "" && len(content.IsDNS1123Subdomain(strings.TrimPrefix(s, "*."))) > 0 {
		r.fault(v.path, "", "%q is neither a DNS name nor an IP address", s)
		return ""
	}
	return s
}

func (r *reader) endpoint(v value) string {
	s := r.text(v)
	if s == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	n, errPort := strconv.Atoi(port)
	_, errAddr := netip.ParseAddr(host)
	if err != nil || errPort != nil || n < 1 || n > 65535 || errAddr != nil && len(content.IsDNS1123Subdomain(host)) > 0 {
		r.fault(v.path, "write it as api.example.org:6443", "%q is not host:port", s)
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(n))
}

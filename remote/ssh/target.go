// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kevinburke/ssh_config"

	"github.com/muster-project/muster/inventory"
)

// maxHops bounds a chain of bastions; a ProxyJump can name itself.
const maxHops = 8

// hop is one machine of a chain, with everything decided that the inventory and
// ~/.ssh/config decide.
type hop struct {
	host         string
	port         int
	user         string
	keys         []string // files, absolute
	named        bool     // the keys were written down, not guessed
	agent        bool
	onlyKeys     bool // of the agent's keys, use only those that are files too
	knownHosts   []string
	hashNames    bool // write known_hosts with hashed names
	hostKey      string
	firstContact string
	bastion      bool
}

func (h hop) address() string { return net.JoinHostPort(h.host, strconv.Itoa(h.port)) }

// route gives the machines to pass, the host itself last.
func route(host inventory.Host, o Options) ([]hop, error) {
	c, err := readConfig(o)
	if err != nil {
		return nil, err
	}
	s := host.SSH
	s.Host = cmp.Or(s.Host, host.Address.String())
	hops, err := c.hops(s, 0)
	if err != nil {
		return nil, err
	}
	for i := range hops {
		hops[i].bastion = i < len(hops)-1
	}
	return hops, nil
}

// clientConfig is the operator's OpenSSH configuration.
type clientConfig struct {
	home, path string
	file       *ssh_config.Config // nil when there is none
}

func readConfig(o Options) (clientConfig, error) {
	c := clientConfig{home: o.Home, path: o.ConfigFile}
	if c.path == "" {
		return c, nil
	}
	f, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the SSH configuration: %w", err)
	}
	defer f.Close()
	if c.file, err = ssh_config.Decode(f); err != nil {
		return c, fmt.Errorf("read the SSH configuration %s: %w; move what only OpenSSH understands into another file", c.path, err)
	}
	return c, nil
}

// get is the first value of a key for an alias, or "". Broken values of files
// that are included count as none, as the library reports them so.
func (c clientConfig) get(alias, key string) string {
	if c.file == nil {
		return ""
	}
	v, err := c.file.Get(alias, key)
	if err != nil {
		return ""
	}
	return v
}

func (c clientConfig) all(alias, key string) []string {
	if c.file == nil {
		return nil
	}
	v, err := c.file.GetAll(alias, key)
	if err != nil {
		return nil
	}
	return v
}

// hops gives the chain that ends at s. The alias is looked up as `ssh alias`
// would, and only for what the inventory leaves open.
func (c clientConfig) hops(s inventory.SSH, depth int) ([]hop, error) {
	if depth > maxHops {
		return nil, fmt.Errorf("reach %s: more than %d bastions in a row; does a ProxyJump of %s name itself?", s.Host, maxHops, c.path)
	}
	h, err := c.hop(s)
	if err != nil {
		return nil, err
	}
	before, err := c.bastion(s)
	if err != nil || before == nil {
		return []hop{h}, err
	}
	hops, err := c.hops(*before, depth+1)
	if err != nil {
		return nil, err
	}
	return append(hops, h), nil
}

func (c clientConfig) hop(s inventory.SSH) (hop, error) {
	alias := s.Host
	h := hop{
		port: s.Port, user: cmp.Or(s.User, c.get(alias, "User"), "root"),
		agent: s.Agent, onlyKeys: strings.EqualFold(c.get(alias, "IdentitiesOnly"), "yes"),
		hashNames: strings.EqualFold(c.get(alias, "HashKnownHosts"), "yes"),
		hostKey:   s.HostKey, firstContact: s.FirstContact,
	}
	h.host = strings.ReplaceAll(cmp.Or(c.get(alias, "HostName"), alias), "%h", alias)
	if h.port == 0 {
		text := cmp.Or(c.get(alias, "Port"), "22")
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return hop{}, fmt.Errorf("read the SSH configuration %s: %q is not a port (for %s)", c.path, text, alias)
		}
		h.port = port
	}
	c.keys(&h, s)
	for _, f := range s.KnownHosts {
		h.knownHosts = append(h.knownHosts, inventory.ExpandHome(f, c.home))
	}
	if len(h.knownHosts) == 0 && c.home != "" {
		h.knownHosts = []string{filepath.Join(c.home, ".ssh", "known_hosts")}
	}
	return h, nil
}

// keys decides which key files are tried: the inventory's, else the
// configuration's, else OpenSSH's usual ones.
func (c clientConfig) keys(h *hop, s inventory.SSH) {
	keys := s.Keys
	if len(keys) == 0 {
		keys = c.all(s.Host, "IdentityFile")
	}
	h.named = len(keys) > 0
	if !h.named && c.home != "" {
		keys = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	}
	tokens := strings.NewReplacer("%%", "%", "%d", c.home, "%h", h.host, "%r", h.user)
	for _, k := range keys {
		if len(s.Keys) == 0 { // tokens belong to the configuration file only
			k = tokens.Replace(k)
		}
		h.keys = append(h.keys, inventory.ExpandHome(k, c.home))
	}
}

// bastion gives the hop before s: the inventory's, else the configuration's.
func (c clientConfig) bastion(s inventory.SSH) (*inventory.SSH, error) {
	if s.Bastion != nil {
		return s.Bastion, nil
	}
	jumps := c.get(s.Host, "ProxyJump")
	if jumps == "" || strings.EqualFold(jumps, "none") {
		if proxy := c.get(s.Host, "ProxyCommand"); jumps == "" && proxy != "" && !strings.EqualFold(proxy, "none") {
			return nil, fmt.Errorf("reach %s: %s sets a ProxyCommand, which is not run; write the machine in between as ssh.bastion", s.Host, c.path)
		}
		return nil, nil
	}
	var before *inventory.SSH
	for _, jump := range strings.Split(jumps, ",") {
		j, ok := inventory.ParseJump(strings.TrimSpace(jump))
		if !ok {
			return nil, fmt.Errorf("read the SSH configuration %s: ProxyJump %q is not user@host:port", c.path, jump)
		}
		j.Agent, j.KnownHosts, j.FirstContact, j.Bastion = s.Agent, s.KnownHosts, s.FirstContact, before
		if len(c.all(j.Host, "IdentityFile")) == 0 {
			j.Keys = s.Keys
		}
		before = &j
	}
	return before, nil
}

// SPDX-License-Identifier: Apache-2.0

// Package etcd is the configuration of one etcd member, as muster-etcd reads
// it and the installer writes it. It imports nothing of etcd, so that writing
// the file does not cost what running it does; package member runs it.
package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Defaults and limits.
const (
	// DefaultHeartbeat and DefaultElection fit members within one data centre
	// (https://etcd.io/docs/v3.6/tuning/#time-parameters).
	DefaultHeartbeat = 100 * time.Millisecond
	DefaultElection  = 1000 * time.Millisecond
	// MaxElection is where etcd itself refuses.
	MaxElection = 50 * time.Second
	// DefaultQuotaBytes is four times etcd's own default: Kubernetes at a
	// thousand nodes needs more than 2 GiB, and 8 GiB is the most that etcd's
	// documentation recommends.
	DefaultQuotaBytes = 8 << 30
	// DefaultSnapshotCount is etcd 3.6's: entries applied between two raft
	// snapshots.
	DefaultSnapshotCount = 10_000
	// DefaultMetricsURL serves /metrics and /health without TLS, so only to
	// this host.
	DefaultMetricsURL = "http://127.0.0.1:2381"
)

// TLS are the files of one side of mutual TLS: what this member shows and the
// authority that the other side's certificate has to be from.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	CA   string `yaml:"ca"`
}

// Peer is one member of the initial cluster.
type Peer struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"` // where other members reach it: https://10.0.0.11:2380
}

// ClusterState says how a member without data begins.
type ClusterState string

// The states.
const (
	// New forms a cluster with the initial members.
	New ClusterState = "new"
	// Existing joins one that already counts this member.
	Existing ClusterState = "existing"
)

// Config is one member. Fields that the file leaves out get their defaults.
type Config struct {
	Name    string `yaml:"name"`
	DataDir string `yaml:"dataDir"`

	ListenPeerURLs      []string `yaml:"listenPeerURLs"`
	AdvertisePeerURLs   []string `yaml:"advertisePeerURLs"`
	ListenClientURLs    []string `yaml:"listenClientURLs"`
	AdvertiseClientURLs []string `yaml:"advertiseClientURLs"`
	MetricsURLs         []string `yaml:"metricsURLs"`

	// What follows about the initial cluster only counts for a member without
	// data; afterwards the data knows better.
	InitialCluster []Peer       `yaml:"initialCluster"`
	InitialToken   string       `yaml:"initialToken"`
	InitialState   ClusterState `yaml:"initialState"`

	Peer   TLS `yaml:"peer"`
	Client TLS `yaml:"client"`
	// Health is the client certificate that `muster-etcd health` and `members`
	// show to this member.
	Health TLS `yaml:"health"`

	Heartbeat     time.Duration `yaml:"heartbeat"`
	Election      time.Duration `yaml:"election"`
	QuotaBytes    int64         `yaml:"quotaBytes"`
	SnapshotCount uint64        `yaml:"snapshotCount"`
}

// Load reads and checks the file.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read etcd configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads a configuration: unknown keys are faults, defaults are applied,
// and all faults are reported together.
func Parse(data []byte) (Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("parse etcd configuration: %w", err)
	}
	if err := dec.Decode(new(Config)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("parse etcd configuration: more than one YAML document")
	}
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Render gives the file that Parse reads back to the same value, defaults
// included.
func (c Config) Render() ([]byte, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	out, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("render etcd configuration: %w", err)
	}
	return out, nil
}

func (c Config) withDefaults() Config {
	if len(c.MetricsURLs) == 0 {
		c.MetricsURLs = []string{DefaultMetricsURL}
	}
	if c.InitialState == "" {
		c.InitialState = New
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = DefaultHeartbeat
	}
	if c.Election == 0 {
		c.Election = DefaultElection
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = DefaultQuotaBytes
	}
	if c.SnapshotCount == 0 {
		c.SnapshotCount = DefaultSnapshotCount
	}
	return c
}

// Validate reports every fault of the configuration with its path.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" {
		fault("name: is empty")
	}
	if c.DataDir == "" {
		fault("dataDir: is empty")
	}
	errs = append(errs,
		urls("listenPeerURLs", "https", c.ListenPeerURLs), urls("advertisePeerURLs", "https", c.AdvertisePeerURLs),
		urls("listenClientURLs", "https", c.ListenClientURLs), urls("advertiseClientURLs", "https", c.AdvertiseClientURLs),
		urls("metricsURLs", "http", c.MetricsURLs),
		c.Peer.validate("peer"), c.Client.validate("client"), c.Health.validate("health"))
	if c.InitialToken == "" {
		fault("initialToken: is empty: without one, two clusters could take each other's members for their own")
	}
	if c.InitialState != New && c.InitialState != Existing {
		fault("initialState: %q: not one of %s, %s", c.InitialState, New, Existing)
	}
	errs = append(errs, c.validateCluster())
	if c.Heartbeat < time.Millisecond || c.Election < 5*c.Heartbeat || c.Election > MaxElection {
		fault("heartbeat %s, election %s: want an election of five heartbeats or more, and at most %s", c.Heartbeat, c.Election, MaxElection)
	}
	if c.QuotaBytes < 0 {
		fault("quotaBytes: %d: less than nothing", c.QuotaBytes)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("etcd configuration: %w", err)
	}
	return nil
}

func (c Config) validateCluster() error {
	var errs []error
	seen := map[string]bool{}
	for i, p := range c.InitialCluster {
		if p.Name == "" || strings.ContainsAny(p.Name, ",=") {
			errs = append(errs, fmt.Errorf("initialCluster[%d].name: %q: empty, or with a comma or equals sign", i, p.Name))
		}
		if seen[p.Name] {
			errs = append(errs, fmt.Errorf("initialCluster[%d].name: %q: twice", i, p.Name))
		}
		seen[p.Name] = true
		errs = append(errs, urls(fmt.Sprintf("initialCluster[%d].url", i), "https", []string{p.URL}))
	}
	if !seen[c.Name] {
		errs = append(errs, fmt.Errorf("initialCluster: this member, %q, is not in it", c.Name))
	}
	return errors.Join(errs...)
}

func (t TLS) validate(path string) error {
	var errs []error
	for _, f := range []struct{ field, value string }{{"cert", t.Cert}, {"key", t.Key}, {"ca", t.CA}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("%s.%s: is empty: members and clients only talk mutual TLS", path, f.field))
		}
	}
	return errors.Join(errs...)
}

func urls(path, scheme string, list []string) error {
	if len(list) == 0 {
		return fmt.Errorf("%s: is empty", path)
	}
	var errs []error
	for i, s := range list {
		u, err := url.Parse(s)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s[%d]: %w", path, i, err))
		case u.Scheme != scheme || u.Port() == "" || u.Hostname() == "" || u.Path != "":
			errs = append(errs, fmt.Errorf("%s[%d]: %q: want %s://ADDRESS:PORT", path, i, s, scheme))
		}
	}
	return errors.Join(errs...)
}

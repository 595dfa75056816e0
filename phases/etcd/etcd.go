// SPDX-License-Identifier: Apache-2.0

// Package etcd plans the members of the cluster's database.
//
// On hosts it owns etcd.service, /etc/muster/etcd.yaml and /var/lib/etcd.
package etcd

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/muster-project/muster/etcd"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/phases/cert"
	"github.com/muster-project/muster/phases/preflight"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase is the etcd phase.
type Phase struct{}

// Name is the phase's name.
func (Phase) Name() string { return "etcd" }

// About is the help text.
func (Phase) About() string { return "run the members of etcd, with mutual TLS" }

// Tasks are the IDs of all members.
func Tasks(c phases.Cluster) []plan.ID {
	var ids []plan.ID
	for _, h := range c.WithRole(inventory.Etcd) {
		ids = append(ids, plan.Task{Host: h.Name, Phase: "etcd"}.ID())
	}
	return ids
}

// ClientURLs are where clients reach the members.
func ClientURLs(c phases.Cluster) []string {
	var urls []string
	for _, h := range c.WithRole(inventory.Etcd) {
		urls = append(urls, url(h, clientPort))
	}
	return urls
}

const (
	clientPort = 2379
	peerPort   = 2380
)

func url(h inventory.Host, port uint16) string {
	return "https://" + netip.AddrPortFrom(h.Address, port).String()
}

// Plan installs and starts every member. They wait for each other: a member's
// unit is started once there is a quorum.
func (p Phase) Plan(c phases.Cluster) ([]plan.Task, error) {
	var tasks []plan.Task
	for _, h := range c.WithRole(inventory.Etcd) {
		programs, err := c.Install("muster-etcd", templates.BinDir)
		if err != nil {
			return nil, err
		}
		install := plan.Task{
			Host: h.Name, Phase: p.Name(), Part: "install", Steps: programs, Needs: []plan.ID{preflight.Task(h.Name)},
		}
		steps, err := member(c, h)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, install, plan.Task{
			Host: h.Name, Phase: p.Name(), Steps: steps, Needs: []plan.ID{install.ID(), cert.Task(h.Name)},
		})
	}
	return tasks, nil
}

func member(c phases.Cluster, h inventory.Host) (step.List, error) {
	config, err := config(c, h).Render()
	if err != nil {
		return nil, fmt.Errorf("etcd configuration of %s: %w", h.Name, err)
	}
	unit, err := phases.File(phases.Unit(templates.EtcdService), templates.EtcdUnit{})
	if err != nil {
		return nil, err
	}
	inputs := []string{templates.EtcdConfigPath, templates.BinDir + "/muster-etcd"}
	for _, r := range []pki.Request{pki.EtcdServer(h.Name), pki.EtcdPeer(h.Name)} {
		inputs = append(inputs, phases.PKI(r.CertFile()))
	}
	return step.List{
		step.Directory{Path: templates.EtcdDataDir, Mode: 0o700, Owner: templates.EtcdUser, Whole: true},
		step.File{Path: templates.EtcdConfigPath, Mode: 0o644, Data: string(config)},
		unit,
		step.Unit{Name: templates.EtcdService, Inputs: inputs},
		step.Healthy{
			Argv: []string{templates.BinDir + "/muster-etcd", "health", "--config", templates.EtcdConfigPath},
			Unit: templates.EtcdService, Timeout: time.Minute,
		},
	}, nil
}

func config(c phases.Cluster, h inventory.Host) etcd.Config {
	loopback := "https://127.0.0.1:2379"
	if h.Address.Is6() {
		loopback = "https://[::1]:2379"
	}
	conf := etcd.Config{
		Name: h.Name, DataDir: templates.EtcdDataDir,
		ListenPeerURLs: []string{url(h, peerPort)}, AdvertisePeerURLs: []string{url(h, peerPort)},
		ListenClientURLs: []string{url(h, clientPort), loopback}, AdvertiseClientURLs: []string{url(h, clientPort)},
		InitialToken: c.Cluster(), InitialState: etcd.New,
		Peer:   tlsFiles(pki.EtcdPeer(h.Name)),
		Client: tlsFiles(pki.EtcdServer(h.Name)),
		Health: tlsFiles(pki.EtcdHealthClient()),
	}
	for _, m := range c.WithRole(inventory.Etcd) {
		conf.InitialCluster = append(conf.InitialCluster, etcd.Peer{Name: m.Name, URL: url(m, peerPort)})
	}
	return conf
}

func tlsFiles(r pki.Request) etcd.TLS {
	return etcd.TLS{Cert: phases.PKI(r.CertFile()), Key: phases.PKI(r.KeyFile()), CA: phases.PKI(r.CA.CertFile())}
}

// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// APIVersion is what the file's first line says.
const APIVersion = "muster/v1"

// maxSize bounds the file. A thousand hosts written at length take 300 KiB.
const maxSize = 4 << 20

// Parse reads an inventory. The error is Faults, with all faults of the file;
// only when the reader itself fails is it that failure.
func Parse(in io.Reader) (Inventory, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxSize+1))
	if err != nil {
		return Inventory{}, fmt.Errorf("read the inventory: %w", err)
	}
	if len(data) > maxSize {
		return Inventory{}, Faults{{Problem: fmt.Sprintf("larger than %d MiB", maxSize>>20), Hint: "is this the right file?"}}
	}
	root, fault := document(data)
	if fault != nil {
		return Inventory{}, Faults{*fault}
	}
	r := &reader{lines: map[string]int{"": 1}}
	f := r.file(root)
	fillDefaults(&f)
	check(r, f)
	if len(r.faults) > 0 {
		r.faults.sort()
		return Inventory{}, r.faults
	}
	return f.inventory(), nil
}

// document gives the root node of the only YAML document in data.
func document(data []byte) (*yaml.Node, *Fault) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, &Fault{Line: 1, Problem: "the file is empty", Hint: "it starts with apiVersion: " + APIVersion}
	} else if err != nil {
		return nil, syntaxFault(err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, &Fault{Line: more.Line, Problem: "a second YAML document", Hint: "one file describes one cluster"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxFault(err)
	}
	return doc.Content[0], nil
}

// syntaxFault takes the line out of yaml.v3's message: it has no error type
// that carries it.
func syntaxFault(err error) *Fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	fault := &Fault{Problem: "not YAML: " + text}
	if m := regexp.MustCompile(`^line (\d+): (.*)`).FindStringSubmatch(text); m != nil {
		fault.Line, _ = strconv.Atoi(m[1]) // digits by the expression above
		fault.Problem = "not YAML: " + m[2]
	}
	return fault
}

// file is the inventory while it is read: what the file says, before defaults.
type file struct {
	inv   Inventory // without hosts
	ssh   sshText
	hosts []hostText
}

// hostText is a host with its place in the file.
type hostText struct {
	Host
	path      string
	ssh       sshText
	addresses []addressText // as they are written; a valid file has one or two
}

// addressText is an address of a host with its place in the file.
type addressText struct {
	netip.Addr
	path string
}

func (r *reader) file(root *yaml.Node) file {
	var f file
	r.mapping(value{"", root}, map[string]func(value){
		"apiVersion": r.apiVersion,
		"cluster":    func(v value) { f.inv.Cluster = r.label(v) },
		"kubernetes": func(v value) { f.inv.Kubernetes = r.kubernetes(v) },
		"runtime":    r.runtime,
		"network":    func(v value) { f.inv.Network = r.network(v) },
		"api":        func(v value) { f.inv.API = r.api(v) },
		"ssh":        func(v value) { f.ssh = r.ssh(v, defaultsOnly) },
		"hosts":      func(v value) { r.list(v, func(v value) { f.hosts = append(f.hosts, r.host(v)) }) },
	})
	return f
}

func (r *reader) apiVersion(v value) {
	if s := r.text(v); s != "" && s != APIVersion {
		r.fault(v.path, "write apiVersion: "+APIVersion, "%q is not a version this program reads", s)
	}
}

func (r *reader) network(v value) Network {
	var n Network
	r.mapping(v, map[string]func(value){
		"pods":     func(v value) { r.list(v, func(v value) { n.Pods = r.prefix(v, n.Pods) }) },
		"services": func(v value) { r.list(v, func(v value) { n.Services = r.prefix(v, n.Services) }) },
		"domain":   func(v value) { n.Domain = r.dnsName(v) },
		"cni":      func(v value) { n.CNI = r.cni(v) },
	})
	return n
}

func (r *reader) api(v value) API {
	var a API
	r.mapping(v, map[string]func(value){
		"endpoint": func(v value) { a.Endpoint = r.endpoint(v) },
		"names": func(v value) {
			r.list(v, func(v value) {
				if name := r.nameOrAddress(v); name != "" {
					a.Names = append(a.Names, name)
				}
			})
		},
	})
	return a
}

func (r *reader) host(v value) hostText {
	h := hostText{path: v.path}
	r.mapping(v, map[string]func(value){
		"name":    func(v value) { h.Name = r.dnsName(v) },
		"address": func(v value) { h.addresses = r.hostAddresses(v) },
		"roles":   func(v value) { r.list(v, func(v value) { h.Roles = r.role(v, h.Roles) }) },
		"zone":    func(v value) { h.Zone = r.labelValue(v) },
		"labels":  func(v value) { h.Labels = r.labels(v) },
		"taints":  func(v value) { r.list(v, func(v value) { h.Taints = r.taint(v, h.Taints) }) },
		"ssh":     func(v value) { h.ssh = r.ssh(v, oneHost) },
	})
	if len(h.addresses) > 0 {
		h.Address = h.addresses[0].Addr
	}
	if len(h.addresses) > 1 {
		h.Second = h.addresses[1].Addr
	}
	return h
}

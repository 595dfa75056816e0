// SPDX-License-Identifier: Apache-2.0

// Package phases says what a phase of the install is: a pure function from the
// inventory, the facts and the bundle to tasks. A phase holds no connection
// and changes nothing; package plan has its tasks done. Package all has the
// list, in order.
package phases

import (
	"fmt"
	"net/netip"

	"github.com/muster-project/muster/addons"
	"github.com/muster-project/muster/bundle"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/inventory"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// Phase plans one part of the install.
type Phase interface {
	// Name is the phase's name on the command line, in task IDs and in errors.
	Name() string
	// About is one line for the help text.
	About() string
	// Plan returns the phase's tasks. It asks nobody and changes nothing.
	Plan(Cluster) ([]plan.Task, error)
}

// Artifacts is where a phase finds what the bundle holds.
type Artifacts interface {
	Lookup(name string) (bundle.Artifact, error)
}

// Cluster is all that a phase plans from.
type Cluster struct {
	inventory.Inventory
	Artifacts Artifacts
	Facts     map[string]facts.Host // by host name; may lack hosts that were not asked
}

// APIPort is the port of every API server.
const APIPort = 6443

// ControlPlane is the host with the API server and the CA keys. The inventory
// makes sure that there is exactly one.
func (c Cluster) ControlPlane() inventory.Host { return c.WithRole(inventory.ControlPlane)[0] }

// Nodes are the hosts with a kubelet: workers and control-plane hosts.
func (c Cluster) Nodes() []inventory.Host {
	var nodes []inventory.Host
	for _, h := range c.Hosts {
		if h.Has(inventory.Worker) || h.Has(inventory.ControlPlane) {
			nodes = append(nodes, h)
		}
	}
	return nodes
}

// EachNode plans every node by itself and joins the tasks, in the nodes' order.
func (c Cluster) EachNode(one func(Cluster, inventory.Host) ([]plan.Task, error)) ([]plan.Task, error) {
	var tasks []plan.Task
	for _, h := range c.Nodes() {
		perHost, err := one(c, h)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, perHost...)
	}
	return tasks, nil
}

// Server is the URL under which hosts reach the API.
func (c Cluster) Server() string {
	return "https://" + netip.AddrPortFrom(c.ControlPlane().Address, APIPort).String()
}

// ServiceIP gives the nth address of each service CIDR, in their order, for
// Services with a fixed address: 1 is kubernetes, 10 is kube-dns.
func (c Cluster) ServiceIP(n int) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, cidr := range c.Network.Services {
		a := cidr.Masked().Addr()
		for range n {
			a = a.Next()
		}
		if !cidr.Contains(a) {
			return nil, fmt.Errorf("service CIDR %s has no address number %d", cidr, n)
		}
		all = append(all, a)
	}
	return all, nil
}

// DNSIndex is the number of the DNS Service's address in the service CIDR, as
// kubeadm has it.
const DNSIndex = 10

// AsAdmin are the credentials of muster on the control-plane host.
func (c Cluster) AsAdmin() step.Credentials {
	admin := pki.SuperAdmin()
	return step.Credentials{
		Server: c.Server(), CA: PKI(pki.Kubernetes.CertFile()), Cert: PKI(admin.CertFile()), Key: PKI(admin.KeyFile()),
	}
}

// AsKubelet are the credentials of a host's own kubelet.
func (c Cluster) AsKubelet() step.Credentials {
	return step.Credentials{
		Server: c.Server(), CA: PKI(pki.Kubernetes.CertFile()), Cert: step.KubeletClientCert, Key: step.KubeletClientCert,
	}
}

// PKI is the path of a file in the PKI folder.
func PKI(file string) string { return templates.PKIDir + "/" + file }

// Install returns steps that put every file of an artifact into a folder.
func (c Cluster) Install(artifact, dir string) (step.List, error) {
	a, err := c.Artifacts.Lookup(artifact)
	if err != nil {
		return nil, err
	}
	var steps step.List
	for _, f := range a.Files {
		steps = append(steps, step.Install{Path: dir + "/" + f.Name, Mode: 0o755, Blob: blob(f)})
	}
	return steps, nil
}

// Programs returns steps that put Kubernetes programs into the programs'
// folder. The bundle has them as one multi-call binary that is installed once
// and linked, or, from an official release, one by one.
func (c Cluster) Programs(names ...string) (step.List, error) {
	a, err := c.Artifacts.Lookup("kubernetes")
	if err != nil {
		return nil, err
	}
	multi, isMulti := a.File("kubernetes")
	var steps step.List
	if isMulti {
		steps = append(steps, step.Install{Path: multiCall, Mode: 0o755, Blob: blob(multi)})
	}
	for _, name := range names {
		path := templates.BinDir + "/" + name
		f, ok := a.File(name)
		switch {
		case isMulti:
			steps = append(steps, step.Link{Path: path, Target: "kubernetes"})
		case ok:
			steps = append(steps, step.Install{Path: path, Mode: 0o755, Blob: blob(f)})
		default:
			return nil, fmt.Errorf("bundle: artifact kubernetes has no file %s", name)
		}
	}
	return steps, nil
}

// multiCall is the one binary of all Kubernetes programs.
const multiCall = templates.BinDir + "/kubernetes"

// Image returns the step that imports an artifact's image, and its reference.
func (c Cluster) Image(artifact string) (step.Image, error) {
	a, err := c.Artifacts.Lookup(artifact)
	if err != nil {
		return step.Image{}, err
	}
	if a.Kind != bundle.Image || len(a.Files) != 1 {
		return step.Image{}, fmt.Errorf("bundle: artifact %s is not an image", artifact)
	}
	return step.Image{Ref: a.Ref, Blob: blob(a.Files[0])}, nil
}

func blob(f bundle.File) step.Blob {
	return step.Blob{SHA256: f.SHA256, Size: f.Size, Compressed: f.Blob, Transfer: f.BlobSize}
}

// renderer is any of the inputs of package templates.
type renderer interface{ Render() ([]byte, error) }

// File renders a file that everybody may read.
func File(path string, r renderer) (step.File, error) {
	data, err := r.Render()
	return step.File{Path: path, Mode: 0o644, Data: string(data)}, err
}

// Files renders several, in the order given; it stops at the first fault.
func Files(all ...PathAndTemplate) (step.List, error) {
	var steps step.List
	for _, f := range all {
		s, err := File(f.Path, f.Template)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// PathAndTemplate is a file to render.
type PathAndTemplate struct {
	Path     string
	Template renderer
}

// Unit names the unit file of a unit.
func Unit(name string) string { return templates.UnitDir + "/" + name }

// Leaf is the step for a certificate of the catalogue, in its usual place.
func Leaf(r pki.Request, owner string) step.Certificate {
	return step.Certificate{
		Request: r, CertPath: PKI(r.CertFile()), KeyPath: PKI(r.KeyFile()), CAPath: PKI(r.CA.CertFile()), Owner: owner,
	}
}

// ClientConfig renders a kubeconfig that points at certificate files; it holds
// no secret itself.
func (c Cluster) ClientConfig(path string, r pki.Request) (step.File, error) {
	return File(path, templates.Kubeconfig{
		Cluster: c.Cluster(), Server: c.Server(), CAFile: PKI(pki.Kubernetes.CertFile()), User: r.CommonName,
		ClientCertFile: PKI(r.CertFile()), ClientKeyFile: PKI(r.KeyFile()),
	})
}

// Cluster is the cluster's name.
func (c Cluster) Cluster() string { return c.Inventory.Cluster }

// collections are the plural names of the kinds that add-ons use
// (k8s.io/api, the +resourceName or lower-case plural of each).
var collections = map[string]string{
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "ConfigMap": "configmaps",
	"Deployment": "deployments", "PodDisruptionBudget": "poddisruptionbudgets", "Role": "roles",
	"RoleBinding": "rolebindings", "Secret": "secrets", "Service": "services", "ServiceAccount": "serviceaccounts",
	"Namespace": "namespaces", "DaemonSet": "daemonsets",
}

// Objects returns the steps that apply an add-on.
func (c Cluster) Objects(a addons.Addon) (step.List, error) {
	var steps step.List
	for _, o := range a.Objects {
		path, err := collectionPath(o)
		if err != nil {
			return nil, fmt.Errorf("add-on %s: %w", a.Name, err)
		}
		steps = append(steps, step.Object{As: c.AsAdmin(), Path: path, Name: o.Name, YAML: string(o.YAML)})
	}
	return steps, nil
}

func collectionPath(o addons.Object) (string, error) {
	plural, ok := collections[o.Kind]
	if !ok {
		return "", fmt.Errorf("no collection is known for kind %s", o.Kind)
	}
	path := "/apis/" + o.APIVersion
	if o.APIVersion == "v1" {
		path = "/api/v1"
	}
	if o.Namespace != "" {
		path += "/namespaces/" + o.Namespace
	}
	return path + "/" + plural, nil
}

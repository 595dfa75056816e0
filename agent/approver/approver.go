// SPDX-License-Identifier: Apache-2.0

// Package approver signs off the serving certificates that kubelets ask for.
//
// Nothing in Kubernetes approves CSRs of the signer kubernetes.io/kubelet-serving,
// because a cluster cannot know which names a host may claim. muster does: it
// wrote each host's name and address into the ConfigMap kube-system/muster-hosts
// when the host joined. A request is approved if a node asks for itself, for
// exactly those names, and for serving only; any other is left pending for a
// person to look at.
package approver

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/muster-project/muster/plan/step"
)

// Signer is the signer whose requests are looked at.
const Signer = "kubernetes.io/kubelet-serving"

// HostsPath is where the ConfigMap with each host's address is.
const HostsPath = "/api/v1/namespaces/kube-system/configmaps/muster-hosts"

const csrPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests"

// API is what the approver needs of the API server.
type API interface {
	step.API
	Stream(ctx context.Context, as step.Credentials, c step.Call) (io.ReadCloser, error)
}

// Approver watches and approves until its context ends.
type Approver struct {
	API  API
	As   step.Credentials
	Logf func(format string, args ...any)
	// Retry is how long to wait before looking again after something failed or
	// a request could not be judged yet.
	Retry time.Duration
}

// csr is the part of a CertificateSigningRequest that is judged, with the rest
// of the object kept for the update.
type csr struct {
	Metadata struct{ Name, ResourceVersion string }
	Spec     struct {
		SignerName, Username string
		Groups               []string
		Usages               []string
		Request              []byte
	}
	Status struct {
		Certificate []byte
		Conditions  []json.RawMessage
	}
}

// Run watches requests and approves those that are right.
func (a *Approver) Run(ctx context.Context) error {
	r := refusals{logf: a.Logf}
	for {
		err := a.round(ctx, &r)
		if err != nil && !errors.Is(err, errRefused) && ctx.Err() == nil {
			a.Logf("%v; looking again in %s", err, a.Retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.Retry):
		}
	}
}

// errRefused says that a request was left pending.
var errRefused = errors.New("left pending")

// refusals says once of each request why it is left pending: it stays for a
// day, and is looked at again and again.
type refusals struct {
	logf func(format string, args ...any)
	said []string
}

func (r *refusals) say(c csr, why error) {
	text := fmt.Sprintf("request %s of %s is left pending: %v", c.Metadata.Name, c.Spec.Username, why)
	if !slices.Contains(r.said, text) {
		r.logf("%s", text)
		r.said = append(r.said, text)
	}
}

// keep forgets requests that are gone.
func (r *refusals) keep(list []csr) {
	r.said = slices.DeleteFunc(r.said, func(text string) bool {
		return !slices.ContainsFunc(list, func(c csr) bool { return strings.HasPrefix(text, "request "+c.Metadata.Name+" of ") })
	})
}

// round judges what is pending and then waits for the next request to come.
func (a *Approver) round(ctx context.Context, r *refusals) error {
	query := "?fieldSelector=spec.signerName%3D" + strings.ReplaceAll(Signer, "/", "%2F")
	body, err := a.API.Call(ctx, a.As, step.Call{Method: http.MethodGet, Path: csrPath + query})
	if err != nil {
		return fmt.Errorf("list requests: %w", err)
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []csr
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("decode requests: %w", err)
	}
	r.keep(list.Items)
	var errs []error
	refused := false
	for _, c := range list.Items {
		err := a.judge(ctx, c, r)
		if errors.Is(err, errRefused) {
			refused = true
			continue
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if refused {
		return errRefused
	}
	return a.watch(ctx, query+"&watch=1&timeoutSeconds=300&resourceVersion="+list.Metadata.ResourceVersion, r)
}

// watch judges each request as it comes; it ends without an error when the
// server ends the watch.
func (a *Approver) watch(ctx context.Context, query string, r *refusals) error {
	stream, err := a.API.Stream(ctx, a.As, step.Call{Method: http.MethodGet, Path: csrPath + query})
	if err != nil {
		return fmt.Errorf("watch requests: %w", err)
	}
	defer stream.Close()
	dec := json.NewDecoder(stream)
	for {
		var event struct {
			Type   string
			Object csr
		}
		if err := dec.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watch requests: %w", err)
		}
		if event.Type != "ADDED" {
			continue
		}
		if err := a.judge(ctx, event.Object, r); err != nil {
			return err
		}
	}
}

// judge approves a pending request if it is right. An error means that it
// should be looked at again: it is wrong now, or could not be judged.
func (a *Approver) judge(ctx context.Context, c csr, r *refusals) error {
	if c.Spec.SignerName != Signer || len(c.Status.Certificate) > 0 || len(c.Status.Conditions) > 0 {
		return nil
	}
	hosts, err := a.hosts(ctx)
	if err != nil {
		return fmt.Errorf("read the hosts' addresses: %w", err)
	}
	if err := Check(c.Spec.Username, c.Spec.Groups, c.Spec.Usages, c.Spec.Request, hosts); err != nil {
		r.say(c, err)
		return errRefused
	}
	if err := a.approve(ctx, c.Metadata.Name); err != nil {
		return fmt.Errorf("approve %s of %s: %w", c.Metadata.Name, c.Spec.Username, err)
	}
	a.Logf("approved %s of %s", c.Metadata.Name, c.Spec.Username)
	return nil
}

func (a *Approver) hosts(ctx context.Context) (map[string]string, error) {
	body, err := a.API.Call(ctx, a.As, step.Call{Method: http.MethodGet, Path: HostsPath})
	if err != nil {
		return nil, err
	}
	var config struct{ Data map[string]string }
	return config.Data, json.Unmarshal(body, &config)
}

// approve adds the Approved condition through the approval sub-resource, on
// the object as it is now.
func (a *Approver) approve(ctx context.Context, name string) error {
	path := csrPath + "/" + name
	body, err := a.API.Call(ctx, a.As, step.Call{Method: http.MethodGet, Path: path})
	if err != nil {
		return err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return err
	}
	object["status"], err = json.Marshal(map[string][]map[string]string{"conditions": {{
		"type": "Approved", "status": "True", "reason": "MusterApproved",
		"message": "the node asks for its own names, as the inventory has them",
	}}})
	if err != nil {
		return err
	}
	update, err := json.Marshal(object)
	if err != nil {
		return err
	}
	_, err = a.API.Call(ctx, a.As, step.Call{
		Method: http.MethodPut, Path: path + "/approval", ContentType: "application/json", Body: update,
	})
	return err
}

// servingUsages are what a kubelet asks for (client-go's
// certificate manager: key encipherment only for RSA keys).
var servingUsages = []string{"digital signature", "key encipherment", "server auth"}

// Check judges one request. hosts maps node names to addresses, several
// separated by commas. nil means that it may be approved.
func Check(user string, groups, usages []string, request []byte, hosts map[string]string) error {
	node, ok := strings.CutPrefix(user, "system:node:")
	if !ok || !slices.Contains(groups, "system:nodes") {
		return errors.New("only nodes may ask for it")
	}
	addresses, ok := hosts[node]
	if !ok {
		return fmt.Errorf("muster has not joined a node %s", node)
	}
	for _, u := range usages {
		if !slices.Contains(servingUsages, u) {
			return fmt.Errorf("usage %q is not for serving", u)
		}
	}
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("it is not a PEM certificate request")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := parsed.CheckSignature(); err != nil {
		return err
	}
	return checkNames(parsed, user, node, strings.Split(addresses, ","))
}

func checkNames(r *x509.CertificateRequest, user, node string, addresses []string) error {
	if r.Subject.CommonName != user || !slices.Equal(r.Subject.Organization, []string{"system:nodes"}) {
		return fmt.Errorf("subject %s is not the node's", r.Subject)
	}
	if len(r.EmailAddresses)+len(r.URIs) > 0 {
		return errors.New("e-mail addresses and URIs are not names of a node")
	}
	if len(r.DNSNames)+len(r.IPAddresses) == 0 {
		return errors.New("it names no host")
	}
	for _, name := range r.DNSNames {
		if name != node {
			return fmt.Errorf("DNS name %s is not the node's", name)
		}
	}
	for _, ip := range r.IPAddresses {
		if !slices.Contains(addresses, ip.String()) {
			return fmt.Errorf("address %s is not the node's (%s)", ip, strings.Join(addresses, ", "))
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Ready waits for an answer of 200 from a path of the API server.
type Ready struct {
	As      Credentials
	Path    string // /readyz
	Timeout time.Duration
}

func (r Ready) String() string        { return fmt.Sprintf("%s%s answers", r.As.Server, r.Path) }
func (r Ready) Touches() []Touch      { return nil }
func (r Ready) Within() time.Duration { return r.Timeout }

// Do is never called.
func (r Ready) Do(context.Context, *Host) error { return never(r) }

// Done asks once.
func (r Ready) Done(ctx context.Context, h *Host) (bool, error) {
	_, err := h.API.Call(ctx, r.As, Call{Method: http.MethodGet, Path: r.Path})
	return err == nil, err
}

// Explain names what stands between here and an answer.
func (r Ready) Explain(ctx context.Context, h *Host) []string {
	var lines []string
	for _, unit := range []string{"etcd.service", "kube-apiserver.service"} {
		lines = append(lines, explainUnit(ctx, h, unit)...)
	}
	return lines
}

// NodeReady waits for a node: to be registered and, with Condition "Ready",
// to be able to run pods.
type NodeReady struct {
	As        Credentials
	Node      string
	Condition string // "" for registered with a pod subnet, or "Ready"
	Timeout   time.Duration
}

func (n NodeReady) String() string {
	if n.Condition == "" {
		return fmt.Sprintf("node %s is registered", n.Node)
	}
	return fmt.Sprintf("node %s is %s", n.Node, n.Condition)
}

func (n NodeReady) Touches() []Touch      { return nil }
func (n NodeReady) Within() time.Duration { return n.Timeout }

// Do is never called.
func (n NodeReady) Do(context.Context, *Host) error { return never(n) }

// Done asks for the node once.
func (n NodeReady) Done(ctx context.Context, h *Host) (bool, error) {
	if _, err := os.Stat(h.Path(n.As.Cert)); err != nil {
		return false, fmt.Errorf("the kubelet has no client certificate yet: %w", err)
	}
	node, err := getNode(ctx, h, n.As, n.Node)
	if err != nil {
		return false, err
	}
	if n.Condition == "" {
		return node.Spec.PodCIDR != "", nil
	}
	for _, c := range node.Status.Conditions {
		if c.Type == n.Condition && c.Status != "True" {
			return false, fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		if c.Type == n.Condition {
			return true, nil
		}
	}
	return false, nil
}

// Explain walks from the kubelet outwards.
func (n NodeReady) Explain(ctx context.Context, h *Host) []string {
	var lines []string
	for _, unit := range []string{"containerd.service", "kubelet.service", "flanneld.service"} {
		lines = append(lines, explainUnit(ctx, h, unit)...)
	}
	return lines
}

// Rollout waits until a Deployment has at least Min available pods.
type Rollout struct {
	As              Credentials
	Namespace, Name string
	Min             int
	Timeout         time.Duration
}

func (r Rollout) String() string {
	return fmt.Sprintf("deployment %s/%s has %d available", r.Namespace, r.Name, r.Min)
}
func (r Rollout) Touches() []Touch      { return nil }
func (r Rollout) Within() time.Duration { return r.Timeout }

// Do is never called.
func (r Rollout) Do(context.Context, *Host) error { return never(r) }

// Done asks for the Deployment once.
func (r Rollout) Done(ctx context.Context, h *Host) (bool, error) {
	body, err := h.API.Call(ctx, r.As, Call{
		Method: http.MethodGet, Path: fmt.Sprintf("/apis/apps/v1/namespaces/%s/deployments/%s", r.Namespace, r.Name),
	})
	if err != nil {
		return false, err
	}
	var d struct {
		Status struct{ AvailableReplicas int }
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return false, err
	}
	if d.Status.AvailableReplicas < r.Min {
		return false, fmt.Errorf("%d of %d available", d.Status.AvailableReplicas, r.Min)
	}
	return true, nil
}

// Explain lists the pods of the namespace that are not ready and why, and then
// who makes and places pods.
func (r Rollout) Explain(ctx context.Context, h *Host) []string {
	body, err := h.API.Call(ctx, r.As, Call{Method: http.MethodGet, Path: "/api/v1/namespaces/" + r.Namespace + "/pods"})
	if err != nil {
		return []string{err.Error()}
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase             string
				Conditions        []struct{ Status, Message string }
				ContainerStatuses []struct {
					State struct {
						Waiting *struct{ Reason, Message string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, p := range list.Items {
		for _, c := range p.Status.Conditions {
			if c.Status != "True" && c.Message != "" {
				lines = append(lines, fmt.Sprintf("pod %s: %s: %s", p.Metadata.Name, p.Status.Phase, c.Message))
			}
		}
		for _, c := range p.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil {
				lines = append(lines, fmt.Sprintf("pod %s: %s: %s", p.Metadata.Name, w.Reason, w.Message))
			}
		}
	}
	for _, unit := range []string{"kube-controller-manager.service", "kube-scheduler.service"} {
		lines = append(lines, explainUnit(ctx, h, unit)...)
	}
	return lines
}

// Resolves waits until a DNS server answers a name.
type Resolves struct {
	Server  netip.AddrPort
	Name    string // fully qualified, with its last dot
	Timeout time.Duration
}

func (r Resolves) String() string        { return fmt.Sprintf("%s resolves at %s", r.Name, r.Server) }
func (r Resolves) Touches() []Touch      { return nil }
func (r Resolves) Within() time.Duration { return r.Timeout }

// Do is never called.
func (r Resolves) Do(context.Context, *Host) error { return never(r) }

// Done asks once, with a second's patience.
func (r Resolves) Done(ctx context.Context, _ *Host) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, r.Server.String())
	}}
	found, err := resolver.LookupHost(ctx, r.Name)
	return len(found) > 0, err
}

// Explain looks at the proxier, which carries the question.
func (r Resolves) Explain(ctx context.Context, h *Host) []string {
	return explainUnit(ctx, h, "muster-proxier.service")
}

// Answers waits for an HTTP answer of 200.
type Answers struct {
	URL     string
	Timeout time.Duration
}

func (a Answers) String() string        { return a.URL + " answers" }
func (a Answers) Touches() []Touch      { return nil }
func (a Answers) Within() time.Duration { return a.Timeout }

// Do is never called.
func (a Answers) Do(context.Context, *Host) error { return never(a) }

// Done asks once, with two seconds' patience and a connection of its own.
func (a Answers) Done(ctx context.Context, _ *Host) (bool, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, nil)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("it says %s", resp.Status)
	}
	return true, nil
}

// Explain looks at the proxier, which carries the question.
func (a Answers) Explain(ctx context.Context, h *Host) []string {
	return explainUnit(ctx, h, "muster-proxier.service")
}

// Healthy waits for a program of the host to end with success.
type Healthy struct {
	Argv    []string
	Unit    string // whose health it is, for the evidence
	Timeout time.Duration
}

func (p Healthy) String() string        { return strings.Join(p.Argv, " ") + " succeeds" }
func (p Healthy) Touches() []Touch      { return nil }
func (p Healthy) Within() time.Duration { return p.Timeout }

// Do is never called.
func (p Healthy) Do(context.Context, *Host) error { return never(p) }

// Done runs it once.
func (p Healthy) Done(ctx context.Context, h *Host) (bool, error) {
	_, err := h.Exec.Run(ctx, nil, p.Argv...)
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		return false, fmt.Errorf("not yet: %w", err)
	}
	return err == nil, err
}

// Explain gives the unit's state and log.
func (p Healthy) Explain(ctx context.Context, h *Host) []string { return explainUnit(ctx, h, p.Unit) }

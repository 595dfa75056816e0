// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"github.com/muster-project/muster/internal/nearest"
)

// Labels and taints that Kubernetes itself knows.
const (
	zoneLabel         = "topology.kubernetes.io/zone"
	controlPlaneTaint = "node-role.kubernetes.io/control-plane"
	noSchedule        = "NoSchedule"
)

// NodeLabels gives the labels the host's kubelet registers with: those of the
// file, and its zone under the name the scheduler spreads by.
func (h Host) NodeLabels() map[string]string {
	labels := make(map[string]string, len(h.Labels)+1)
	for k, v := range h.Labels {
		labels[k] = v
	}
	if h.Zone != "" {
		labels[zoneLabel] = h.Zone
	}
	return labels
}

// NodeTaints gives the taints the host's kubelet registers with: those of the
// file, and on a control-plane host that is not a worker too the one that
// keeps ordinary pods away.
func (h Host) NodeTaints() []Taint {
	taints := slices.Clone(h.Taints)
	own := Taint{Key: controlPlaneTaint, Effect: noSchedule}
	if h.Has(ControlPlane) && !h.Has(Worker) && !slices.Contains(taints, own) {
		taints = append(taints, own)
	}
	return taints
}

func (r *reader) labels(v value) map[string]string {
	if isNull(follow(v.node)) {
		return nil
	}
	labels := map[string]string{}
	if follow(v.node).Kind != yaml.MappingNode {
		r.fault(v.path, "write it as {disk: ssd}", "%s where labels belong", describe(follow(v.node)))
		return nil
	}
	r.pairs(v, func(key string, _ *yaml.Node, item value) {
		switch {
		case len(content.IsLabelKey(key)) > 0:
			r.fault(item.path, "write it as disk or example.org/disk", "%q is not a label key", key)
		case !kubeletMaySet(key):
			r.fault(item.path, "use a prefix of your own, or none", "a kubelet may not set the label %q on its own node", key)
		default:
			labels[key] = r.labelText(item)
		}
	})
	return labels
}

// labelText reads a label's value, which unlike other texts may be empty.
func (r *reader) labelText(v value) string {
	if n := follow(v.node); n.Kind == yaml.ScalarNode && n.Value == "" {
		return ""
	}
	return r.labelValue(v)
}

// kubeletMaySet is the rule of the kubelet's --node-labels: it refuses to start
// on any other label of Kubernetes' own domains (k8s.io/kubelet/pkg/apis,
// IsKubeletLabel), and NodeRestriction refuses node-restriction.kubernetes.io.
func kubeletMaySet(key string) bool {
	domain, _, prefixed := strings.Cut(key, "/")
	within := func(of string) bool { return domain == of || strings.HasSuffix(domain, "."+of) }
	switch {
	case !prefixed || !within("kubernetes.io") && !within("k8s.io"):
		return true
	case within("node.kubernetes.io"), within("kubelet.kubernetes.io"):
		return true
	}
	switch key {
	case zoneLabel, "topology.kubernetes.io/region",
		"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
		"beta.kubernetes.io/instance-type":
		return true
	}
	// Host name, system and architecture are allowed too, but the kubelet
	// finds them out itself; setting them here could only make them wrong.
	return false
}

// taint reads one taint, as key=value:Effect or with its parts as keys.
func (r *reader) taint(v value, to []Taint) []Taint {
	before := len(r.faults)
	t := r.taintText(v)
	if len(r.faults) > before {
		return to
	}
	switch effects := []string{noSchedule, "PreferNoSchedule", "NoExecute"}; {
	case len(content.IsLabelKey(t.Key)) > 0:
		r.fault(v.path, "write it as dedicated=db:NoSchedule", "%q is not a taint key", t.Key)
	case len(content.IsLabelValue(t.Value)) > 0:
		r.fault(v.path, "write it as dedicated=db:NoSchedule", "%q is not a taint value", t.Value)
	case !slices.Contains(effects, t.Effect):
		hint := "effects: " + strings.Join(effects, ", ")
		if near := nearest.One(t.Effect, effects); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		r.fault(v.path, hint, "%q is not a taint effect", t.Effect)
	case slices.ContainsFunc(to, func(o Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }):
		r.fault(v.path, "remove one", "taint %s with effect %s is given twice", t.Key, t.Effect)
	default:
		return append(to, t)
	}
	return to
}

func (r *reader) taintText(v value) Taint {
	var t Taint
	if follow(v.node).Kind != yaml.ScalarNode {
		r.mapping(v, map[string]func(value){
			"key":    func(v value) { t.Key = r.text(v) },
			"value":  func(v value) { t.Value = r.labelText(v) },
			"effect": func(v value) { t.Effect = r.text(v) },
		})
		return t
	}
	text, effect, _ := strings.Cut(r.text(v), ":")
	t.Effect = effect
	t.Key, t.Value, _ = strings.Cut(text, "=")
	return t
}

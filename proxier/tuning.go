// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Annotations of a Service that tune its virtual servers. IPVS has what no
// field of the API asks for.
const (
	AnnotationPrefix = "muster-project.github.io/"

	// AnnotationScheduler names the scheduler, one of [Schedulers].
	AnnotationScheduler = AnnotationPrefix + "ipvs-scheduler"

	// AnnotationFlags are flags with commas between: fallback (sh, mh: when
	// the chosen real server takes no connections, try the next), port (sh,
	// mh: the client's port counts too). IPVS' one-packet is not among them:
	// it has nothing that would change the source of an answer back.
	AnnotationFlags = AnnotationPrefix + "ipvs-flags"

	// AnnotationWeights are rules with commas between, the first that fits
	// an endpoint wins: local=4 (on this node), node/NAME=2, zone/NAME=2,
	// *=1. Without a rule that fits it is 1; 0 takes no new connections.
	AnnotationWeights = AnnotationPrefix + "ipvs-weights"
)

// Schedulers are those of the kernel that make sense for Services.
func Schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf"}
}

// Tuning is what a Service's annotations ask for. The zero value leaves all
// to the configuration.
type Tuning struct {
	Scheduler string
	Flags     Flags
	HasFlags  bool // Flags are exactly these, even if none
	Weights   []WeightRule
}

// WeightRule gives endpoints a weight. One of Local, Node and Zone is set, or
// none of them: then it fits all.
type WeightRule struct {
	Local      bool
	Node, Zone string
	Weight     uint32
}

// maxWeight is what IPVS' tools and most schedulers reckon with.
const maxWeight = 65535

func (r WeightRule) fits(e Endpoint, node string) bool {
	switch {
	case r.Local:
		return node != "" && e.Node == node
	case r.Node != "":
		return e.Node == r.Node
	case r.Zone != "":
		return e.Zone == r.Zone
	}
	return true
}

// weight is an endpoint's weight, seen from node.
func (t Tuning) weight(e Endpoint, node string) uint32 {
	for _, r := range t.Weights {
		if r.fits(e, node) {
			return r.Weight
		}
	}
	return 1
}

// tune reads the annotations. What cannot be read is a fault and changes
// nothing: a typing error must not stop a Service.
func (s *Service) tune(annotations map[string]string) {
	if name := strings.TrimSpace(annotations[AnnotationScheduler]); slices.Contains(Schedulers(), name) {
		s.Tuning.Scheduler = name
	} else if name != "" {
		s.Faults = append(s.Faults, fmt.Sprintf("%s: %q is not one of %s", AnnotationScheduler, name, strings.Join(Schedulers(), ", ")))
	}
	if text, ok := annotations[AnnotationFlags]; ok {
		var err error
		if s.Tuning.Flags, err = parseFlags(text); err != nil {
			s.Faults = append(s.Faults, err.Error())
		}
		s.Tuning.HasFlags = err == nil
	}
	if text, ok := annotations[AnnotationWeights]; ok {
		rules, err := parseWeights(text)
		if err != nil {
			s.Faults = append(s.Faults, err.Error())
		}
		s.Tuning.Weights = rules
	}
}

func parseFlags(text string) (Flags, error) {
	var flags Flags
	for word := range words(text) {
		switch word {
		case "fallback":
			flags |= FlagSched1
		case "port":
			flags |= FlagSched2
		default:
			return 0, fmt.Errorf("%s: %q is not one of fallback, port", AnnotationFlags, word)
		}
	}
	return flags, nil
}

func parseWeights(text string) ([]WeightRule, error) {
	var rules []WeightRule
	for word := range words(text) {
		who, number, _ := strings.Cut(word, "=")
		weight, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
		rule := WeightRule{Weight: uint32(weight)}
		kind, name, _ := strings.Cut(strings.TrimSpace(who), "/")
		switch {
		case kind == "local" && name == "":
			rule.Local = true
		case kind == "node" && name != "":
			rule.Node = name
		case kind == "zone" && name != "":
			rule.Zone = name
		case kind == "*" && name == "":
		default:
			err = cmp.Or(err, strconv.ErrSyntax)
		}
		if err != nil || weight > maxWeight {
			return nil, fmt.Errorf("%s: %q is not local=N, node/NAME=N, zone/NAME=N or *=N with N from 0 to %d", AnnotationWeights, word, maxWeight)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// words are the parts between commas that are not empty.
func words(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for word := range strings.SplitSeq(text, ",") {
			if word = strings.TrimSpace(word); word != "" && !yield(word) {
				return
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// api is as much of an API server as a service proxy needs: list, watch and
// streamed lists of four kinds, from memory, in protobuf, which every
// contender prefers. Objects are encoded when they change, not when they are
// asked for: the contenders share one core with it.
type api struct{ kinds map[string]*kind } // by path

// The paths that are served.
const (
	servicesPath = "/api/v1/services"
	slicesPath   = "/apis/discovery.k8s.io/v1/endpointslices"
	nodesPath    = "/api/v1/nodes"
	cidrsPath    = "/apis/networking.k8s.io/v1/servicecidrs"
)

func newAPI(c cluster) (*api, error) {
	a := &api{kinds: map[string]*kind{
		servicesPath: newKind(corev1.SchemeGroupVersion, &corev1.ServiceList{}, &corev1.Service{}),
		slicesPath:   newKind(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSliceList{}, &discoveryv1.EndpointSlice{}),
		nodesPath:    newKind(corev1.SchemeGroupVersion, &corev1.NodeList{}, &corev1.Node{}),
		cidrsPath:    newKind(networkingv1.SchemeGroupVersion, &networkingv1.ServiceCIDRList{}, &networkingv1.ServiceCIDR{}),
	}}
	if err := a.kinds[nodesPath].put(c.node()); err != nil {
		return nil, err
	}
	if err := a.kinds[cidrsPath].put(c.serviceCIDR()); err != nil {
		return nil, err
	}
	for i := range c.services {
		if err := a.kinds[servicesPath].put(c.service(i)); err != nil {
			return nil, err
		}
		if err := a.setEndpoints(c, i, initial(i)); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// setEndpoints replaces the endpoints of a Service; whoever watches is told.
func (a *api) setEndpoints(c cluster, service int, endpoints []netip.Addr) error {
	return a.kinds[slicesPath].put(c.slice(service, endpoints))
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k, ok := a.kinds[r.URL.Path]
	switch {
	case r.Method == http.MethodPost || r.Method == http.MethodPatch: // events
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body) // a client that went away is no fault
	case strings.HasPrefix(r.URL.Path, nodesPath+"/"):
		a.kinds[nodesPath].get(w)
	case !ok:
		http.NotFound(w, r)
	case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
		k.watch(w, r)
	default:
		k.answerList(w)
	}
}

// kind is all objects of one kind.
type kind struct {
	version schema.GroupVersion
	list    runtime.Object
	empty   runtime.Object

	mu      sync.Mutex
	last    int // resource version
	order   []string
	objects map[string]stored
	log     []change
	grown   chan struct{} // closed when log grows
}

type stored struct {
	object runtime.Object
	added  []byte // the event that says that it is there
}

type change struct {
	version int
	event   []byte
}

func newKind(version schema.GroupVersion, list, empty runtime.Object) *kind {
	return &kind{version: version, list: list, empty: empty, last: 1000, objects: map[string]stored{}, grown: make(chan struct{})}
}

// put adds or replaces an object, which then is the kind's own.
func (k *kind) put(object runtime.Object) error {
	about, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	about.SetResourceVersion(strconv.Itoa(k.last))
	added, err := k.event("ADDED", object)
	if err != nil {
		return err
	}
	told := added
	if _, had := k.objects[about.GetName()]; had {
		if told, err = k.event("MODIFIED", object); err != nil {
			return err
		}
	} else {
		k.order = append(k.order, about.GetName())
	}
	k.objects[about.GetName()] = stored{object, added}
	k.log = append(k.log, change{k.last, told})
	close(k.grown)
	k.grown = make(chan struct{})
	return nil
}

func protobuf() runtime.SerializerInfo {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	return info // every scheme of client-go has it
}

func (k *kind) encode(object runtime.Object) ([]byte, error) {
	raw, err := runtime.Encode(scheme.Codecs.EncoderForVersion(protobuf().Serializer, k.version), object)
	if err != nil {
		return nil, fmt.Errorf("encode a %T: %w", object, err)
	}
	return raw, nil
}

// event is one frame of a watch.
func (k *kind) event(what string, object runtime.Object) ([]byte, error) {
	raw, err := k.encode(object)
	if err != nil {
		return nil, err
	}
	var frame bytes.Buffer
	stream := protobuf().StreamSerializer
	err = stream.Encode(&metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: raw}}, stream.Framer.NewFrameWriter(&frame))
	if err != nil {
		return nil, fmt.Errorf("frame an event: %w", err)
	}
	return frame.Bytes(), nil
}

func (k *kind) get(w http.ResponseWriter) {
	k.mu.Lock()
	object := k.objects[k.order[0]].object
	raw, err := k.encode(object)
	k.mu.Unlock()
	reply(w, raw, err)
}

func (k *kind) answerList(w http.ResponseWriter) {
	raw, err := k.encodeList()
	reply(w, raw, err)
}

func (k *kind) encodeList() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.list.DeepCopyObject()
	var items []runtime.Object
	for _, name := range k.order {
		items = append(items, k.objects[name].object)
	}
	if err := meta.SetList(list, items); err != nil {
		return nil, err
	}
	about, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	about.SetResourceVersion(strconv.Itoa(k.last))
	return k.encode(list)
}

func reply(w http.ResponseWriter, raw []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	_, _ = w.Write(raw) // a client that went away is no fault
}

// watch streams changes after the version asked for; a client that asks for
// a streamed list first gets every object, and a bookmark at their end.
func (k *kind) watch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	from, _ := strconv.Atoi(query.Get("resourceVersion")) // none is 0: everything
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	w.WriteHeader(http.StatusOK)
	if write(w) != nil { // the client waits for the header
		return
	}
	if query.Get("sendInitialEvents") == "true" {
		frames, version, err := k.snapshot()
		if err != nil || write(w, frames...) != nil {
			return
		}
		from = version
	}
	for {
		frames, version, grown := k.since(from)
		if len(frames) == 0 && !wait(r.Context(), grown) {
			return
		}
		if write(w, frames...) != nil {
			return
		}
		from = version
	}
}

func (k *kind) snapshot() (frames [][]byte, version int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range k.order {
		frames = append(frames, k.objects[name].added)
	}
	end := k.empty.DeepCopyObject()
	about, err := meta.Accessor(end)
	if err != nil {
		return nil, 0, err
	}
	about.SetResourceVersion(strconv.Itoa(k.last))
	about.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	bookmark, err := k.event("BOOKMARK", end)
	return append(frames, bookmark), k.last, err
}

func (k *kind) since(from int) (frames [][]byte, version int, grown <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, _ := slices.BinarySearchFunc(k.log, from+1, func(c change, v int) int { return c.version - v })
	for _, c := range k.log[at:] {
		frames = append(frames, c.event)
	}
	return frames, k.last, k.grown
}

func wait(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

func write(w http.ResponseWriter, frames ...[]byte) error {
	for _, f := range frames {
		if _, err := w.Write(f); err != nil {
			return err
		}
	}
	return http.NewResponseController(w).Flush()
}

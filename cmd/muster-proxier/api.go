// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// api is what the API server has for this program. The whole clientset knows
// every kind of Kubernetes: with it the program is twice as large, on disk
// and in memory, on every node.
type api struct {
	services, slices, nodes, cidrs cache.ListerWatcher
	events                         eventWriter
}

// The Services and slices asked for: the API server filters, so that objects
// for others never travel.
const (
	servicesWithAddress = "spec.clusterIP!=" + corev1.ClusterIPNone
	servicesOfOurs      = "!service.kubernetes.io/service-proxy-name"
	slicesOfOurs        = "!" + corev1.IsHeadlessService + ",!service.kubernetes.io/service-proxy-name"
)

// connect knows how to reach the API server; it does not ask it anything yet.
// node is this program's own.
func connect(c kubeClient, node string) (*api, error) {
	config, err := clientConfig(c)
	if err != nil {
		return nil, fmt.Errorf("how to reach the API server: %w", err)
	}
	clients := map[schema.GroupVersion]*rest.RESTClient{}
	for group := range groups() {
		if clients[group], err = clientFor(config, group); err != nil {
			return nil, fmt.Errorf("how to reach the API server: %w", err)
		}
	}
	follow := func(group schema.GroupVersion, resource, labels, fields string) cache.ListerWatcher {
		return cache.NewFilteredListWatchFromClient(clients[group], resource, metav1.NamespaceAll,
			func(o *metav1.ListOptions) { o.LabelSelector, o.FieldSelector = labels, fields })
	}
	return &api{
		services: follow(corev1.SchemeGroupVersion, "services", servicesOfOurs, servicesWithAddress),
		slices:   follow(discoveryv1.SchemeGroupVersion, "endpointslices", slicesOfOurs, ""),
		nodes:    follow(corev1.SchemeGroupVersion, "nodes", "", "metadata.name="+node),
		cidrs:    follow(networkingv1.SchemeGroupVersion, "servicecidrs", "", ""),
		events:   eventClient{clients[eventsv1.SchemeGroupVersion]},
	}, nil
}

// groups are those of the API that are used, and how their types are learnt.
func groups() map[schema.GroupVersion]func(*runtime.Scheme) error {
	return map[schema.GroupVersion]func(*runtime.Scheme) error{
		corev1.SchemeGroupVersion:       corev1.AddToScheme,
		discoveryv1.SchemeGroupVersion:  discoveryv1.AddToScheme,
		eventsv1.SchemeGroupVersion:     eventsv1.AddToScheme,
		networkingv1.SchemeGroupVersion: networkingv1.AddToScheme,
	}
}

// clientConfig uses protobuf unless the file says otherwise: lists of
// Services and slices are a third of their JSON, and cheaper still to read.
func clientConfig(c kubeClient) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if c.kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	config.ContentType, config.AcceptContentTypes = c.contentType, c.accept
	if c.accept == "" && c.contentType == protobuf {
		config.AcceptContentTypes = protobuf + ",application/json"
	}
	config.QPS, config.Burst = c.qps, c.burst
	config.UserAgent = "muster-proxier/" + version()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range groups() {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return config, nil
}

func clientFor(config *rest.Config, group schema.GroupVersion) (*rest.RESTClient, error) {
	own := rest.CopyConfig(config)
	own.GroupVersion, own.APIPath = &group, "/apis"
	if group.Group == "" {
		own.APIPath = "/api"
	}
	return rest.RESTClientFor(own)
}

// eventClient is the real eventWriter.
type eventClient struct{ client *rest.RESTClient }

func (c eventClient) write(ctx context.Context, e *eventsv1.Event) error {
	return c.client.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
}

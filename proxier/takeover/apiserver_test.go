// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package takeover_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The cluster that both proxies are told of: one node, and a Service `web`
// with two pods, both families, that is reachable in every way.
const (
	nodeObject = `{"kind":"Node","apiVersion":"v1","metadata":{"name":"node","uid":"n","resourceVersion":"1"},"spec":{"podCIDR":"10.244.0.0/24"},
"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"},{"type":"InternalIP","address":"2001:db8::1"}]}}`
	serviceObject = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"default","uid":"s","resourceVersion":"2"},
"spec":{"type":"LoadBalancer","clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7","fd00:96::7"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack",
"externalIPs":["203.0.113.77"],
"internalTrafficPolicy":"Cluster","externalTrafficPolicy":"Cluster","sessionAffinity":"None",
"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":8080,"nodePort":30080}]},"status":{"loadBalancer":{}}}`
	sliceObject = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"web-%[1]s","namespace":"default","uid":"e%[1]s","resourceVersion":"3",
"labels":{"kubernetes.io/service-name":"web"}},"addressType":"%[1]s","ports":[{"name":"http","protocol":"TCP","port":8080}],
"endpoints":[{"addresses":["%[2]s"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"node"},
{"addresses":["%[3]s"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"node"}]}`
	cidrObject = `{"kind":"ServiceCIDR","apiVersion":"networking.k8s.io/v1","metadata":{"name":"kubernetes","uid":"c","resourceVersion":"4"},
"spec":{"cidrs":["10.96.0.0/16","fd00:96::/112"]}}`
)

// apiServer answers what the two proxies ask: lists and watches in which
// nothing ever happens. It returns the file that says how to reach it.
func apiServer(t *testing.T) (kubeconfig string) {
	t.Helper()
	objects := map[string][]string{
		"/api/v1/nodes":                                    {"Node", "v1", nodeObject},
		"/api/v1/nodes/node":                               {"", "", nodeObject},
		"/api/v1/services":                                 {"Service", "v1", serviceObject},
		"/apis/discovery.k8s.io/v1/endpointslices":         {"EndpointSlice", "discovery.k8s.io/v1", fmt.Sprintf(sliceObject, "IPv4", "10.244.0.2", "10.244.0.3"), fmt.Sprintf(sliceObject, "IPv6", "fd00:244::2", "fd00:244::3")},
		"/apis/networking.k8s.io/v1/servicecidrs":          {"ServiceCIDR", "networking.k8s.io/v1", cidrObject},
		"/apis/networking.k8s.io/v1beta1/servicecidrs":     {"ServiceCIDR", "networking.k8s.io/v1beta1"},
		"/apis/events.k8s.io/v1/namespaces/default/events": nil,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, known := objects[r.URL.Path]
		switch {
		case !known || len(answer) < 2:
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`, http.StatusNotFound)
		case answer[0] == "":
			fmt.Fprint(w, answer[2])
		case r.URL.Query().Get("watch") != "":
			watch(w, r, answer)
		default:
			fmt.Fprintf(w, `{"kind":"%sList","apiVersion":"%s","metadata":{"resourceVersion":"9"},"items":[%s]}`, answer[0], answer[1], strings.Join(answer[2:], ","))
		}
	}))
	t.Cleanup(server.CloseClientConnections)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"x","cluster":{"server":%q}}],
"users":[{"name":"x","user":{}}],"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}]}`, server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// watch sends what there is to those who ask for it, and then nothing.
func watch(w http.ResponseWriter, r *http.Request, answer []string) {
	encode := json.NewEncoder(w)
	event := func(kind, object string) {
		_ = encode.Encode(map[string]any{"type": kind, "object": json.RawMessage(object)}) // a watcher that went away is no fault
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range answer[2:] {
			event("ADDED", o)
		}
		event("BOOKMARK", fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}`, answer[0], answer[1]))
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// Defaults of kube-proxy (pkg/proxy/apis/config/v1alpha1/defaults.go).
const (
	healthzPort          = "10256"
	metricsPort          = "10249"
	defaultSyncPeriod    = 30 * time.Second
	defaultMinSyncPeriod = time.Second // of the modes that are not ipvs
	defaultConfigSync    = 15 * time.Minute
	defaultMaxPerCore    = 32 << 10
	defaultMinConntrack  = 128 << 10
	defaultMasqueradeBit = 14
	defaultOOMScoreAdj   = -999
	defaultQPS           = 5
	defaultBurst         = 10
	protobuf             = "application/vnd.kubernetes.protobuf"
)

// decode reads the file. Keys that are unknown or there twice are all
// reported, each with its path.
func decode(data []byte) (*kubeproxy.KubeProxyConfiguration, error) {
	scheme := runtime.NewScheme()
	if err := kubeproxy.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("the types of kube-proxy's configuration: %w", err)
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	into := &kubeproxy.KubeProxyConfiguration{}
	_, _, err := strict.Decode(data, nil, into)
	if kubeproxy.SchemeGroupVersion.WithKind("KubeProxyConfiguration") != into.GroupVersionKind() && (err == nil || runtime.IsStrictDecodingError(err)) ||
		runtime.IsNotRegisteredError(err) || runtime.IsMissingKind(err) || runtime.IsMissingVersion(err) {
		return nil, fmt.Errorf("apiVersion, kind: not %s, KubeProxyConfiguration", kubeproxy.SchemeGroupVersion)
	}
	if unknown, ok := runtime.AsStrictDecodingError(err); ok {
		return into, errors.Join(unknown.Errors()...)
	}
	return into, err
}

// setDefaults fills in what kube-proxy would.
func setDefaults(c *kubeproxy.KubeProxyConfiguration) {
	orString(&c.BindAddress, "0.0.0.0")
	healthz, metrics := "0.0.0.0", "127.0.0.1"
	if a, err := netip.ParseAddr(c.BindAddress); err == nil && a.Is6() && !a.Is4In6() {
		healthz, metrics = "::", "::1"
	}
	c.HealthzBindAddress = withPort(cmp.Or(c.HealthzBindAddress, healthz), healthzPort)
	c.MetricsBindAddress = withPort(cmp.Or(c.MetricsBindAddress, metrics), metricsPort)
	orDuration(&c.IPTables.SyncPeriod, defaultSyncPeriod)
	orDuration(&c.IPTables.MinSyncPeriod, defaultMinSyncPeriod)
	orDuration(&c.IPVS.SyncPeriod, defaultSyncPeriod)
	orDuration(&c.NFTables.SyncPeriod, defaultSyncPeriod)
	orDuration(&c.NFTables.MinSyncPeriod, defaultMinSyncPeriod)
	orDuration(&c.ConfigSyncPeriod, defaultConfigSync)
	orPointer(&c.IPTables.LocalhostNodePorts, true)
	orPointer(&c.IPTables.MasqueradeBit, defaultMasqueradeBit)
	orPointer(&c.NFTables.MasqueradeBit, defaultMasqueradeBit)
	orPointer(&c.OOMScoreAdj, defaultOOMScoreAdj)
	orPointer(&c.Conntrack.MaxPerCore, defaultMaxPerCore)
	orPointer(&c.Conntrack.Min, defaultMinConntrack)
	orPointer(&c.Conntrack.TCPEstablishedTimeout, metav1.Duration{Duration: 24 * time.Hour})
	orPointer(&c.Conntrack.TCPCloseWaitTimeout, metav1.Duration{Duration: time.Hour})
	orString(&c.ClientConnection.ContentType, protobuf)
	if c.ClientConnection.QPS == 0 {
		c.ClientConnection.QPS = defaultQPS
	}
	if c.ClientConnection.Burst == 0 {
		c.ClientConnection.Burst = defaultBurst
	}
	if c.DetectLocalMode == "" {
		c.DetectLocalMode = detectClusterCIDR
	}
	orString(&c.IPVS.Scheduler, "rr")
	orString(&c.Logging.Format, "text")
}

func orString(s *string, otherwise string) { *s = cmp.Or(*s, otherwise) }

func orDuration(d *metav1.Duration, otherwise time.Duration) {
	if d.Duration == 0 {
		d.Duration = otherwise
	}
}

func orPointer[T any](p **T, otherwise T) {
	if *p == nil {
		*p = &otherwise
	}
}

// withPort adds the port to an address that has none. What is no address
// stays as it is, to be found wrong.
func withPort(text, port string) string {
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err != nil {
		return text
	}
	return net.JoinHostPort(strings.Trim(text, "[]"), port)
}

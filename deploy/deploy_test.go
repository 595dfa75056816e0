// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/deploy"
	"github.com/muster-project/muster/version"
)

// read decodes every document with the consumer's own types.
func read(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	var set appsv1.DaemonSet
	kinds := map[string]any{"ServiceAccount": &corev1.ServiceAccount{}, "ClusterRoleBinding": &rbacv1.ClusterRoleBinding{}, "DaemonSet": &set}
	for _, doc := range strings.Split(string(deploy.Proxier()), "\n---\n") {
		var head struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatal(err)
		}
		into, ok := kinds[head.Kind]
		if !ok {
			t.Fatalf("a document of kind %q", head.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
			t.Fatal(err)
		}
		delete(kinds, head.Kind)
	}
	if len(kinds) > 0 {
		t.Fatalf("no documents for %v", kinds)
	}
	return &set
}

func TestImageIsThisVersions(t *testing.T) {
	if got, want := read(t).Spec.Template.Spec.Containers[0].Image, "muster.local/muster-proxier-image:"+version.Version; got != want {
		t.Errorf("image %s, want %s", got, want)
	}
}

// What the program may do on a node is what it needs and no more.
func TestPrivileges(t *testing.T) {
	pod := read(t).Spec.Template.Spec
	c := pod.Containers[0].SecurityContext
	switch {
	case !pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.Containers) != 1 || len(pod.InitContainers) != 0:
		t.Error("it is not one container in the host's network alone")
	case c.Privileged != nil || *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Error("it is privileged, or can become it, or writes to its image, or calls what it likes")
	case len(c.Capabilities.Add) != 1 || c.Capabilities.Add[0] != "NET_ADMIN" || len(c.Capabilities.Drop) != 1 || c.Capabilities.Drop[0] != "ALL":
		t.Errorf("capabilities %+v", c.Capabilities)
	}
	writable := map[string]string{"/run/muster/proxier": "", "/proc/sys/net": ""}
	for _, v := range pod.Volumes {
		if v.HostPath == nil {
			continue
		}
		if _, ok := writable[v.HostPath.Path]; !ok {
			t.Errorf("it reaches %s on the host", v.HostPath.Path)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package addons_test

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/muster-project/muster/addons"
	"github.com/muster-project/muster/internal/golden"
)

func coreDNSInput() addons.CoreDNSInput {
	return addons.CoreDNSInput{
		Version: "1.15.0", Image: "muster.local/coredns:1.15.0",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Domain: "cluster.local",
	}
}

func all(t *testing.T) []addons.Addon {
	t.Helper()
	var out []addons.Addon
	add := func(a addons.Addon, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	add(addons.BootstrapRBAC())
	add(addons.FlannelRBAC())
	add(addons.ApproverRBAC())
	add(addons.CoreDNS(coreDNSInput()))
	dual := coreDNSInput()
	dual.ClusterIPs = append(dual.ClusterIPs, netip.MustParseAddr("fd00:96::a"))
	dual.Replicas = 3
	a, err := addons.CoreDNS(dual)
	a.Name = "coredns-dual"
	add(a, err)
	add(addons.Sample("muster.local/agnhost:1.36.3"))
	return out
}

func TestGoldens(t *testing.T) {
	for _, a := range all(t) {
		var out bytes.Buffer
		for _, o := range a.Objects {
			out.WriteString("---\n")
			out.Write(o.YAML)
		}
		golden.Equal(t, a.Name+".yaml.golden", out.Bytes())
	}
}

// typed gives an empty value of the API type that the object must fit.
func typed(t *testing.T, o addons.Object) metav1.Object {
	t.Helper()
	switch o.APIVersion + " " + o.Kind {
	case "v1 ServiceAccount":
		return &corev1.ServiceAccount{}
	case "v1 ConfigMap":
		return &corev1.ConfigMap{}
	case "v1 Secret":
		return &corev1.Secret{}
	case "v1 Service":
		return &corev1.Service{}
	case "apps/v1 Deployment":
		return &appsv1.Deployment{}
	case "policy/v1 PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "rbac.authorization.k8s.io/v1 ClusterRole":
		return &rbacv1.ClusterRole{}
	case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
		return &rbacv1.ClusterRoleBinding{}
	case "rbac.authorization.k8s.io/v1 Role":
		return &rbacv1.Role{}
	case "rbac.authorization.k8s.io/v1 RoleBinding":
		return &rbacv1.RoleBinding{}
	default:
		t.Fatalf("%s %s: no type known to this test", o.APIVersion, o.Kind)
		return nil
	}
}

func TestObjectsFitTheirTypes(t *testing.T) {
	for _, a := range all(t) {
		seen := map[string]bool{}
		for _, o := range a.Objects {
			into := typed(t, o)
			if err := yaml.UnmarshalStrict(o.YAML, into); err != nil {
				t.Errorf("%s: %s %s: %v", a.Name, o.Kind, o.Name, err)
			}
			if into.GetName() != o.Name || into.GetNamespace() != o.Namespace {
				t.Errorf("%s: %s %s/%s calls itself %s/%s", a.Name, o.Kind, o.Namespace, o.Name, into.GetNamespace(), into.GetName())
			}
			if id := o.Kind + o.Namespace + o.Name; seen[id] {
				t.Errorf("%s: %s %s: twice", a.Name, o.Kind, o.Name)
			} else {
				seen[id] = true
			}
		}
	}
}

// find decodes the only object of its type.
func find[T metav1.Object](t *testing.T, a addons.Addon) T {
	t.Helper()
	for _, o := range a.Objects {
		if into, ok := typed(t, o).(T); ok {
			return decode(t, o, into)
		}
	}
	t.Fatalf("%s has no such object", a.Name)
	panic("unreachable")
}

func TestCoreDNSHangsTogether(t *testing.T) {
	a, err := addons.CoreDNS(coreDNSInput())
	if err != nil {
		t.Fatal(err)
	}
	deploy := find[*appsv1.Deployment](t, a)
	pod := labels.Set(deploy.Spec.Template.Labels)
	pdb := find[*policyv1.PodDisruptionBudget](t, a)
	svc := find[*corev1.Service](t, a)
	spread := deploy.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector
	for name, selector := range map[string]*metav1.LabelSelector{"deployment": deploy.Spec.Selector, "budget": pdb.Spec.Selector, "spread": spread} {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil || !s.Matches(pod) {
			t.Errorf("the %s does not select the pods: %v", name, err)
		}
	}
	if !labels.SelectorFromSet(svc.Spec.Selector).Matches(pod) {
		t.Error("the service does not select the pods")
	}
	var ports []string
	for _, p := range deploy.Spec.Template.Spec.Containers[0].Ports {
		ports = append(ports, p.Name)
	}
	for _, p := range svc.Spec.Ports {
		if !slices.Contains(ports, p.TargetPort.StrVal) {
			t.Errorf("service port %s leads to no port of the container", p.Name)
		}
	}
	if svc.Spec.ClusterIP != "10.96.0.10" || *deploy.Spec.Replicas != 2 || pdb.Spec.MinAvailable.IntValue() != 1 {
		t.Errorf("cluster IP %s, replicas %d, budget %v", svc.Spec.ClusterIP, *deploy.Spec.Replicas, pdb.Spec.MinAvailable)
	}
	corefile := find[*corev1.ConfigMap](t, a).Data["Corefile"]
	for _, want := range []string{"kubernetes cluster.local in-addr.arpa", "pods verified", "loop", "lameduck"} {
		if !strings.Contains(corefile, want) {
			t.Errorf("%q is not in the Corefile", want)
		}
	}
	if !reflect.DeepEqual(a.Images, []string{deploy.Spec.Template.Spec.Containers[0].Image}) || a.Version != "1.15.0" {
		t.Errorf("the add-on says images %q, version %s", a.Images, a.Version)
	}
}

func TestCoreDNSIsConfined(t *testing.T) {
	a, err := addons.CoreDNS(coreDNSInput())
	if err != nil {
		t.Fatal(err)
	}
	pod := find[*appsv1.Deployment](t, a).Spec.Template.Spec
	c := pod.Containers[0].SecurityContext
	if !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		*c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || c.Capabilities.Drop[0] != "ALL" || len(c.Capabilities.Add) != 0 {
		t.Errorf("pod %+v, container %+v", pod.SecurityContext, c)
	}
	taint := corev1.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(pod.Tolerations, func(tol corev1.Toleration) bool {
		return tol.Key == taint.Key && tol.Effect == taint.Effect
	}) {
		t.Error("does not run on control-plane hosts")
	}
}

func TestInputsArriveUnharmed(t *testing.T) {
	in := coreDNSInput()
	in.Image = `evil": {}` + "\n---\nkind: x"
	a, err := addons.CoreDNS(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := find[*appsv1.Deployment](t, a).Spec.Template.Spec.Containers[0].Image; got != in.Image {
		t.Errorf("image arrived as %q", got)
	}
}

func TestFaultyInputs(t *testing.T) {
	if _, err := addons.CoreDNS(addons.CoreDNSInput{}); err == nil || !strings.Contains(err.Error(), "no cluster IP") {
		t.Errorf("empty: %v", err)
	}
	bad := coreDNSInput()
	bad.Domain = "x\n}\n. {\n"
	if _, err := addons.CoreDNS(bad); err == nil || !strings.Contains(err.Error(), "domain") {
		t.Errorf("a domain that is a Corefile: %v", err)
	}
	if _, err := addons.Sample(""); err == nil {
		t.Error("a sample without an image")
	}
}

// Bindings to roles that do not exist are accepted by the API server and do
// nothing, so the names of built-in roles are compared with its own list
// (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata/cluster-roles.yaml
// of Kubernetes 1.36.3).
func TestBindingsNameRolesThatExist(t *testing.T) {
	builtIn := []string{
		"cluster-admin", "system:kubelet-api-admin", "system:node-bootstrapper",
		"system:certificates.k8s.io:certificatesigningrequests:nodeclient",
		"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
	}
	for _, a := range all(t) {
		own := map[string]bool{}
		for _, o := range a.Objects {
			var ref rbacv1.RoleRef
			switch into := typed(t, o).(type) {
			case *rbacv1.ClusterRole, *rbacv1.Role:
				own[o.Kind+" "+o.Name] = true
				continue
			case *rbacv1.ClusterRoleBinding:
				ref = decode(t, o, into).RoleRef
			case *rbacv1.RoleBinding:
				ref = decode(t, o, into).RoleRef
			default:
				continue
			}
			// Own roles come before their bindings, in apply order.
			known := own[ref.Kind+" "+ref.Name] || ref.Kind == "ClusterRole" && slices.Contains(builtIn, ref.Name)
			if !known {
				t.Errorf("%s: %s %s binds %s, which nobody makes", a.Name, o.Kind, o.Name, ref.Name)
			}
		}
	}
}

func decode[T metav1.Object](t *testing.T, o addons.Object, into T) T {
	t.Helper()
	if err := yaml.UnmarshalStrict(o.YAML, into); err != nil {
		t.Fatalf("%s %s: %v", o.Kind, o.Name, err)
	}
	return into
}

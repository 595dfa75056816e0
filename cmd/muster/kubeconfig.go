// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-project/muster/kubeconfig"
	"github.com/muster-project/muster/operator"
	"github.com/muster-project/muster/pki"
)

// kubeconfigFlags say where a cluster's credentials go.
type kubeconfigFlags struct {
	path    string
	context string
	use     bool
}

func (k *kubeconfigFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.path, "kubeconfig", "", "file to add the cluster to (default: as kubectl has it)")
	cmd.Flags().StringVar(&k.context, "context", "", "name of the context (default: the cluster's)")
	cmd.Flags().BoolVar(&k.use, "use", false, "make it the current context")
}

func newKubeconfigCommand(s streams) *cobra.Command {
	var flags clusterFlags
	var kube kubeconfigFlags
	var print bool
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Add the cluster to your kubeconfig",
		Long: "Makes a key here, has its certificate signed on the control-plane host, and adds the\n" +
			"cluster to your kubeconfig. An entry of another cluster is never overwritten.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.open(s, false)
			if err != nil {
				return err
			}
			defer c.close()
			if err := c.belongs(cmd.Context()); err != nil {
				return err
			}
			if !print {
				return c.mergeKubeconfig(cmd.Context(), kube)
			}
			ca, err := c.operator.Authority(cmd.Context(), pki.Kubernetes)
			if err != nil {
				return err
			}
			entry, err := c.credentials(cmd.Context(), kube, ca)
			if err != nil {
				return err
			}
			data, err := kubeconfig.Render(entry)
			if err != nil {
				return err
			}
			_, err = s.out.Write(data)
			return err
		},
	}
	flags.add(cmd)
	kube.add(cmd)
	cmd.Flags().BoolVar(&print, "print", false, "print a file with this cluster alone, and change none")
	return cmd
}

// mergeKubeconfig adds the cluster to the operator's kubeconfig and says how
// to use it.
func (s *session) mergeKubeconfig(ctx context.Context, k kubeconfigFlags) error {
	if err := k.defaults(s.inventory.Cluster); err != nil {
		return err
	}
	ca, err := s.operator.Authority(ctx, pki.Kubernetes)
	if err != nil {
		return err
	}
	entry, err := s.keepOrMake(ctx, k, ca)
	if err != nil {
		return err
	}
	changed, err := kubeconfig.Merge(k.path, entry, k.use)
	if err != nil {
		return err
	}
	what := "has the cluster already"
	if changed {
		what = "now has the cluster"
	}
	_, err = fmt.Fprintf(s.out, "%s %s. Try:\n  kubectl --context %s get nodes\n", k.path, what, entry.Name)
	return err
}

// defaults fills in what no flag says.
func (k *kubeconfigFlags) defaults(cluster string) error {
	if k.context == "" {
		k.context = cluster
	}
	if k.path != "" {
		return nil
	}
	home, err := os.UserHomeDir()
	k.path = kubeconfig.Path(os.Getenv("KUBECONFIG"), home)
	return err
}

// keepOrMake goes on with the credentials that the file has, while they are
// good for a while.
func (s *session) keepOrMake(ctx context.Context, k kubeconfigFlags, ca []byte) (kubeconfig.Entry, error) {
	cert, key, err := kubeconfig.Existing(k.path, k.context, ca)
	if err != nil {
		return kubeconfig.Entry{}, err
	}
	if cert != nil && pki.Matches(cert, key, ca, pki.Admin(operator.Name()), time.Now()) == nil {
		return kubeconfig.Entry{Name: k.context, Server: s.endpoint(), CA: ca, Cert: cert, Key: key}, nil
	}
	return s.credentials(ctx, k, ca)
}

func (s *session) endpoint() string { return "https://" + s.inventory.API.Endpoint }

// credentials makes a key here and has it certified. Anyone who may log in to
// the control-plane host as root may do this.
func (s *session) credentials(ctx context.Context, k kubeconfigFlags, ca []byte) (kubeconfig.Entry, error) {
	if err := k.defaults(s.inventory.Cluster); err != nil {
		return kubeconfig.Entry{}, err
	}
	request := pki.Admin(operator.Name())
	key, err := pki.NewKey()
	if err != nil {
		return kubeconfig.Entry{}, err
	}
	csr, err := pki.CSR(key, request)
	if err != nil {
		return kubeconfig.Entry{}, err
	}
	cert, err := s.operator.Sign(ctx, request, csr)
	private, keyErr := pki.EncodeKey(key)
	if err := errors.Join(err, keyErr); err != nil {
		return kubeconfig.Entry{}, err
	}
	return kubeconfig.Entry{Name: k.context, Server: s.endpoint(), CA: ca, Cert: cert, Key: private}, nil
}

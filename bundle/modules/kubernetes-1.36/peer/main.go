// SPDX-License-Identifier: Apache-2.0

// Command peer is kubeadm and kube-proxy, which muster does not install but is
// measured against. The name it is started under picks one, or its first
// argument does.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the build's version as a metric
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/errors"

	"github.com/muster-project/muster/bundle/modules/kubernetes-1.36/multicall"
)

func main() {
	os.Exit(run(os.Args, os.Stderr))
}

// run starts the program that args ask for and returns its exit code. Both
// read os.Args themselves, so run sets it to what they expect.
func run(args []string, errOut io.Writer) int {
	picked := multicall.Pick(args, []string{"kubeadm", "kube-proxy"})
	if picked == nil {
		fmt.Fprintln(errOut, "peer: start it as, or with a first argument of, kubeadm or kube-proxy")
		return 2
	}
	os.Args = picked
	if picked[0] == "kube-proxy" {
		return cli.Run(proxy.NewProxyCommand())
	}
	errors.HandleError(kubeadm.Run())
	return 0
}

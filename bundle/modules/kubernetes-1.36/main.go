// SPDX-License-Identifier: Apache-2.0

// Command kubernetes is kube-apiserver, kube-controller-manager,
// kube-scheduler, kubelet and kubectl in one file. The five share nine tenths
// of their code, so together they are a third of their size apart, which is
// what has to be sent to every host.
//
// The name it is started under picks the program, as busybox does it. Under any
// other name the first argument is the program: `kubernetes kubelet --version`.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	_ "time/tzdata" // CronJobs name time zones, and hosts may have no tzdata.

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's login plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the build's version as a metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/muster-project/muster/bundle/modules/kubernetes-1.36/multicall"
)

func main() {
	os.Exit(run(os.Args, os.Stderr))
}

// run starts the program that args ask for and returns its exit code. The
// programs read os.Args themselves, so run sets it to what they expect.
func run(args []string, errOut io.Writer) int {
	programs := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}
	picked := multicall.Pick(args, programs)
	if picked == nil {
		fmt.Fprintf(errOut, "kubernetes: start it as, or with a first argument of, one of: %s\n", strings.Join(programs, " "))
		return 2
	}
	os.Args = picked
	switch picked[0] {
	case "kube-apiserver":
		return cli.Run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		return cli.Run(controllermanager.NewControllerManagerCommand())
	case "kube-scheduler":
		return cli.Run(scheduler.NewSchedulerCommand())
	case "kubelet":
		return cli.Run(kubelet.NewKubeletCommand(context.Background()))
	default:
		return runKubectl()
	}
}

// runKubectl differs from the servers: kubectl builds its plugins and reads
// .kuberc while the command is made, which already logs, and prints its errors
// in its own way.
func runKubectl() int {
	// An unreadable -v is reported by the flag parsing that follows.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	command := kubectl.NewDefaultKubectlCommand()
	if err := cli.RunNoErrOutput(command); err != nil {
		util.CheckErr(err)
	}
	return 0
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"io"
	"log"
	"path/filepath"
	"time"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/agent/approver"
	"github.com/muster-project/muster/plan/step"
)

// approve runs as a service on control-plane hosts, for kubelets rotate their
// serving certificates as long as the cluster lives.
func approve(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("approve", flag.ContinueOnError)
	server := flags.String("server", "https://127.0.0.1:6443", "API server")
	cert := flags.String("cert", agent.PKIDir+"/approver.crt", "client certificate")
	key := flags.String("key", agent.PKIDir+"/approver.key", "its key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	logger := log.New(out, "", 0)
	a := approver.Approver{
		API:   &agent.API{Path: func(p string) string { return p }},
		As:    step.Credentials{Server: *server, CA: filepath.Join(agent.PKIDir, "ca.crt"), Cert: *cert, Key: *key},
		Logf:  logger.Printf,
		Retry: time.Second,
	}
	return a.Run(ctx)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/muster-project/muster/proxier/kernel"
)

// options are the command line.
type options struct {
	config   string
	nodeIPs  string
	stateDir string
	cleanup  bool
	version  bool
}

func parseArgs(args []string, errOut io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("muster-proxier", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&o.config, "config", "", "`file` with a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1, mode ipvs)")
	flags.StringVar(&o.nodeIPs, "node-ip", "", "this node's `addresses`, at most one per family, with commas; otherwise the Node's InternalIPs")
	flags.StringVar(&o.stateDir, "state-dir", "/run/muster/proxier", "`directory` for the settings from before; a reboot must empty it")
	flags.BoolVar(&o.cleanup, "cleanup", false, "remove everything this program put into the kernel, and exit")
	flags.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q: this program takes flags only", flags.Arg(0))
	}
	return o, nil
}

// run is the program.
func run(ctx context.Context, args []string, _ io.Reader, out, errOut io.Writer) error {
	o, err := parseArgs(args, errOut)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case o.version:
		_, err := fmt.Fprintln(out, version())
		return err
	case o.cleanup:
		return kernel.CleanUp(ctx, o.stateDir)
	}
	cfg, err := readConfig(o)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(errOut, nil))
	klog.SetSlogLogger(log)
	if len(cfg.ignored) > 0 {
		log.Warn("settings without effect here", "file", o.config, "ignored", strings.Join(cfg.ignored, " "))
	}
	client, err := connect(cfg.kubeconfig)
	if err != nil {
		return err
	}
	k, err := kernel.Open(o.stateDir)
	if err != nil {
		return err
	}
	s := service{config: cfg, client: client, kernel: k, watch: kernel.Watch, log: log, notify: systemd{}}
	return errors.Join(s.run(ctx), k.Close())
}

// readConfig reads the file and lets flags override it.
func readConfig(o options) (config, error) {
	if o.config == "" {
		return config{}, errors.New("--config names no file")
	}
	data, err := os.ReadFile(o.config)
	if err != nil {
		return config{}, fmt.Errorf("read the configuration: %w", err)
	}
	cfg, err := parseConfig(data, os.Hostname)
	if err != nil {
		return config{}, fmt.Errorf("%s:\n%w", o.config, err)
	}
	for text := range strings.SplitSeq(o.nodeIPs, ",") {
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return config{}, fmt.Errorf("--node-ip: %w", err)
		}
		cfg.nodeAddrs = append(cfg.nodeAddrs, addr.Unmap())
	}
	cfg.nodeAddrs = primary(cfg.nodeAddrs)
	return cfg, nil
}

// connect uses protobuf: lists of Services and slices are a third of their
// JSON, and cheaper still to read.
func connect(kubeconfig string) (kubernetes.Interface, error) {
	var rc *rest.Config
	var err error
	if kubeconfig == "" {
		rc, err = rest.InClusterConfig()
	} else {
		rc, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("how to reach the API server: %w", err)
	}
	rc.ContentType = "application/vnd.kubernetes.protobuf"
	rc.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	rc.UserAgent = "muster-proxier/" + version()
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("how to reach the API server: %w", err)
	}
	return client, nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

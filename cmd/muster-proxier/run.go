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
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/muster-project/muster/proxier/kernel"
	"github.com/muster-project/muster/proxier/neighbours"
)

// options are the command line.
type options struct {
	config   string
	hostname string
	nodeIPs  string
	stateDir string
	cleanup  bool
	version  bool

	integrate bool // accept Services in others' firewalls
	calico    bool // have an empty kube-ipvs0
	clear     bool // what kube-proxy left, once
}

func parseArgs(args []string, errOut io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("muster-proxier", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&o.config, "config", "", "`file` with a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1, mode ipvs)")
	flags.StringVar(&o.hostname, "hostname-override", "", "this Node's `name`; otherwise that of the configuration or the host")
	flags.StringVar(&o.nodeIPs, "node-ip", "", "this node's `addresses`, at most one per family, with commas; otherwise the Node's InternalIPs")
	flags.StringVar(&o.stateDir, "state-dir", "/run/muster/proxier", "`directory` for the settings from before; a reboot must empty it")
	flags.BoolVar(&o.cleanup, "cleanup", false, "remove everything this program put into the kernel, and exit")
	flags.BoolVar(&o.integrate, "firewall-integration", false, "put static rules that accept Services into firewalls of this host that drop by policy")
	flags.BoolVar(&o.calico, "compat-calico", false, "have an empty interface kube-ipvs0, by which Calico knows that IPVS carries Services")
	flags.BoolVar(&o.clear, "clear-kube-proxy", false, "remove what kube-proxy left beside this program, and exit; it does that itself where its privileges suffice")
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
		return errors.Join(kernel.CleanUp(ctx, o.stateDir), neighbours.Remove(), neighbours.RemoveDevice())
	case o.clear:
		return clearKubeProxy(ctx, o, slog.New(slog.NewTextHandler(errOut, nil)))
	}
	saveMemory()
	cfg, data, err := readConfig(o)
	if err != nil {
		return err
	}
	log := logger(cfg, errOut)
	klog.SetSlogLogger(log)
	cfg.log(log, o.config)
	if err := adjustOOM(cfg.oomScoreAdj); err != nil {
		log.Warn("the kernel may end this program first when memory is short", "error", err)
	}
	server, err := connect(cfg.client, cfg.Node)
	if err != nil {
		return err
	}
	how := cfg.rules
	how.StateDir = o.stateDir
	k, err := kernel.Open(how)
	if err != nil {
		return err
	}
	ticks := time.NewTicker(configTick)
	defer ticks.Stop()
	watch := configWatch{path: o.config, now: data, log: log, ticks: ticks.C, check: func(data []byte) error {
		_, err := o.parse(data)
		return err
	}}
	s := service{config: cfg, api: server, kernel: k, host: realKernel(o.stateDir), log: log, notify: systemd{},
		reload: watch.run, handover: fromKubeProxy(how, cfg.exclude, o, log), neighbours: newNeighbourhood(o, log)}
	return errors.Join(s.run(ctx), k.Close())
}

func logger(c config, out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.debug {
		options.Level = slog.LevelDebug
	}
	if c.logJSON {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// log says once what in the file has no effect or another one than under
// kube-proxy.
func (c config) log(log *slog.Logger, file string) {
	if len(c.ignored) > 0 {
		log.Warn("settings without effect here", "file", file, "ignored", strings.Join(c.ignored, "; "))
	}
	if len(c.notes) > 0 {
		log.Warn("other than under kube-proxy", "file", file, "notes", strings.Join(c.notes, "; "))
	}
}

// adjustOOM says how soon the kernel may end this program; nil leaves it.
func adjustOOM(score *int32) error {
	if score == nil {
		return nil
	}
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(int(*score))), 0o644)
}

// readConfig reads the file, and also returns it.
func readConfig(o options) (config, []byte, error) {
	if o.config == "" {
		return config{}, nil, errors.New("--config names no file")
	}
	data, err := os.ReadFile(o.config)
	if err != nil {
		return config{}, nil, fmt.Errorf("read the configuration: %w", err)
	}
	cfg, err := o.parse(data)
	return cfg, data, err
}

// parse reads the content of the file and adds what flags say.
func (o options) parse(data []byte) (config, error) {
	cfg, err := parseConfig(data, host{name: os.Hostname, cpus: cpus()})
	if err != nil {
		return config{}, fmt.Errorf("%s:\n%w", o.config, err)
	}
	if o.hostname != "" {
		cfg.Node = strings.ToLower(o.hostname) // as kube-proxy has it
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

// cpus counts those of the machine. A container may be allowed only some of
// them, and then the runtime counts too few (kubernetes/kubernetes#99225).
func cpus() int {
	found, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*")
	if err != nil || len(found) == 0 {
		return runtime.NumCPU()
	}
	return len(found)
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/procfs"
)

// contender is one of the programs that are compared.
type contender string

const (
	muster   contender = "muster"
	kubeIPVS contender = "ipvs"
	kubeNFT  contender = "nftables"
)

func contenders() []contender { return []contender{muster, kubeIPVS, kubeNFT} }

// Ports of the contenders, which are the same for all.
const (
	metricsAddr = "127.0.0.1:10249"
	healthzAddr = "127.0.0.1:10256"
)

// config is the file that every contender gets; the mode alone differs.
// Conntrack limits cannot be set in a network namespace that is not the
// first.
const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: ` + nodeName + `
clusterCIDR: ` + podRange + `
detectLocalMode: ClusterCIDR
nodePortAddresses: [primary]
metricsBindAddress: ` + metricsAddr + `
healthzBindAddress: ` + healthzAddr + `
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: bench, cluster: {server: "http://%s"}}]
contexts: [{name: bench, context: {cluster: bench}}]
current-context: bench
`

// process is a contender that runs, in a cgroup of its own.
type process struct {
	command *exec.Cmd
	cgroup  string
	ended   chan struct{} // closed at its end
	fate    error         // why it ended
	output  *tail
}

const cgroups = "/sys/fs/cgroup"

// start writes the contender's files into dir and starts it. Programs lie
// beside this one.
func (who contender) start(ctx context.Context, dir, programs, apiAddr string) (*process, error) {
	kubeconfigFile, configFile := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "config.yaml")
	mode, program := string(who), "kube-proxy"
	args := []string{"--config", configFile}
	if who == muster {
		mode, program = "ipvs", "muster-proxier"
		args = append(args, "--state-dir", filepath.Join(dir, "state"))
	}
	if err := errors.Join(
		os.WriteFile(kubeconfigFile, fmt.Appendf(nil, kubeconfig, apiAddr), 0o600),
		os.WriteFile(configFile, fmt.Appendf(nil, config, mode, kubeconfigFile), 0o600),
	); err != nil {
		return nil, err
	}
	cgroup, err := os.MkdirTemp(cgroups, "bench-")
	if err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	group, err := os.Open(cgroup)
	if err != nil {
		return nil, err
	}
	defer group.Close() //nolint:errcheck // only its number is used
	p := &process{cgroup: cgroup, ended: make(chan struct{}), output: &tail{}}
	p.command = exec.CommandContext(ctx, filepath.Join(programs, program), args...)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := p.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", who, err), os.Remove(cgroup))
	}
	go func() {
		p.fate = p.command.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop kills the contender and all that it started.
func (p *process) stop() error {
	if err := os.WriteFile(filepath.Join(p.cgroup, "cgroup.kill"), []byte("1"), 0o600); err != nil {
		return fmt.Errorf("end the contender: %w", err)
	}
	<-p.ended
	_, err := await(context.Background(), time.Now(), func() (bool, error) {
		err := os.Remove(p.cgroup)
		return err == nil, ignore(err, syscall.EBUSY)
	})
	return err
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// alive makes the end of the contender the error of ok.
func (p *process) alive(ok func() (bool, error)) func() (bool, error) {
	return func() (bool, error) {
		select {
		case <-p.ended:
			return false, fmt.Errorf("the contender ended: %w:\n%s", p.fate, p.output)
		default:
			return ok()
		}
	}
}

// cpu is what the contender and everything it started have used.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(p.cgroup, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s has no usage", p.cgroup)
}

// memory is the most that was resident of the contender's own process, and
// now is, in bytes.
func (p *process) memory() (peak, now uint64, err error) {
	proc, err := procfs.NewProc(p.command.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	s, err := proc.NewStatus()
	return s.VmHWM, s.VmRSS, err
}

// tree is the most memory that the contender and all that it started had at
// once, in bytes, page cache included; 0 where cgroups do not count it.
func (p *process) tree() uint64 {
	text, err := os.ReadFile(filepath.Join(p.cgroup, "memory.peak"))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // 0 is unknown here
	return n
}

// syncs counts a contender's passes over the kernel so far, and their time.
type syncs struct {
	Count uint64
	Took  time.Duration
}

func (s syncs) since(before syncs) syncs { return syncs{s.Count - before.Count, s.Took - before.Took} }

// passes asks the contender's metrics.
func passes(ctx context.Context) (syncs, error) {
	const name = "kubeproxy_sync_proxy_rules_duration_seconds"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAddr+"/metrics", nil)
	if err != nil {
		return syncs{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return syncs{}, fmt.Errorf("ask for metrics: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // read only
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return syncs{}, fmt.Errorf("read metrics: %w", err)
	}
	family, ok := families[name]
	if !ok {
		return syncs{}, fmt.Errorf("the contender has no metric %s", name)
	}
	var sum syncs
	for _, m := range family.Metric {
		sum.Count += m.GetHistogram().GetSampleCount()
		sum.Took += time.Duration(m.GetHistogram().GetSampleSum() * float64(time.Second))
	}
	return sum, nil
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-tailSize):]
	return len(b), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.kept)) }

var _ io.Writer = (*tail)(nil)

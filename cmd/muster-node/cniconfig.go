// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// cniConfig turns the subnet that flanneld was given into the configuration
// that the container runtime reads. flanneld's unit runs it each time flanneld
// becomes ready.
func cniConfig(_ context.Context, args []string, _ io.Reader, _ io.Writer) error {
	flags := flag.NewFlagSet("cni-config", flag.ContinueOnError)
	subnetEnv := flags.String("subnet-env", templates.FlannelSubnetEnv, "file that flanneld writes")
	out := flags.String("out", templates.CNIConflistPath, "CNI configuration to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	env, err := os.ReadFile(*subnetEnv)
	if err != nil {
		return err
	}
	conf, err := conflist(string(env))
	if err != nil {
		return fmt.Errorf("%s: %w", *subnetEnv, err)
	}
	data, err := conf.Render()
	if err != nil {
		return err
	}
	h := &step.Host{Root: "/", Now: time.Now}
	return h.WriteFile(*out, 0o644, "", strings.NewReader(string(data)))
}

// conflist reads flannel's subnet.env (flannel's pkg/subnet WriteSubnetFile):
// FLANNEL_SUBNET and FLANNEL_IPV6_SUBNET hold the bridge's address and the
// subnet's length, FLANNEL_MTU the pod network's MTU.
func conflist(env string) (templates.CNIConflist, error) {
	var conf templates.CNIConflist
	for line := range strings.Lines(env) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			subnet, err := netip.ParsePrefix(value)
			if err != nil {
				return conf, fmt.Errorf("%s: %w", key, err)
			}
			conf.Subnets = append(conf.Subnets, subnet.Masked())
		case "FLANNEL_MTU":
			mtu, err := strconv.Atoi(value)
			if err != nil {
				return conf, fmt.Errorf("%s: %w", key, err)
			}
			conf.MTU = mtu
		}
	}
	if len(conf.Subnets) == 0 {
		return conf, fmt.Errorf("no FLANNEL_SUBNET in it")
	}
	return conf, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells the service manager how it goes.
type notifier interface {
	ready()
	alive()
	heartbeat() time.Duration // how often alive is wanted
}

// systemd is the notifier of a unit of Type=notify, and silent elsewhere.
type systemd struct{}

// defaultHeartbeat is how often the loop shows that it turns when nobody
// asks for more.
const defaultHeartbeat = 5 * time.Second

// A notice that does not arrive shows in the unit, which then never becomes
// ready or is restarted by its watchdog.
func (systemd) ready() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }
func (systemd) alive() { _, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) }

func (systemd) heartbeat() time.Duration {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return defaultHeartbeat
	}
	return min(every/2, defaultHeartbeat)
}

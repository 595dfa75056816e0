// SPDX-License-Identifier: Apache-2.0

package proxier

import "maps"

// HealthCheck is what a load balancer in front of the nodes asks each of
// them: how many ready endpoints of a Service with external Local policy it
// has.
type HealthCheck struct {
	Port    uint16 // the Service's healthCheckNodePort
	Service Name
	Local   int // ready endpoints on this node
}

// HealthChecks returns the health checks to answer, by port, where they
// changed since the last call.
func (m *Model) HealthChecks() (checks map[uint16]HealthCheck, changed bool) {
	if !m.healthChanged {
		return nil, false
	}
	m.healthChanged = false
	return maps.Clone(m.health), true
}

func (m *Model) checkHealth(old, now HealthCheck) {
	if old == now || old.Port == 0 && now.Port == 0 {
		return
	}
	if m.health[old.Port].Service == old.Service && old.Port != now.Port {
		delete(m.health, old.Port)
	}
	if now.Port != 0 {
		m.health[now.Port] = now
	}
	m.healthChanged = true
}

// SPDX-License-Identifier: Apache-2.0

package templates

// EtcdUnit is etcd.service, which runs muster-etcd on EtcdConfigPath. The
// configuration itself is rendered by package etcd, which also reads it.
type EtcdUnit struct{}

// Render gives the unit file.
func (EtcdUnit) Render() ([]byte, error) {
	return render("etcd.service.tmpl", struct{ User, BinDir, Config string }{EtcdUser, BinDir, EtcdConfigPath})
}

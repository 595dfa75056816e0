// SPDX-License-Identifier: Apache-2.0

package templates

// ApproverService is the unit of `muster-node approve`.
const ApproverService = "muster-approver.service"

// ApproverUnit is muster-approver.service, on control-plane hosts.
type ApproverUnit struct {
	// Server is the API server's URL.
	Server string
}

// Render gives the unit file.
func (u ApproverUnit) Render() ([]byte, error) {
	n := need{what: ApproverService}
	if err := n.str("Server", u.Server).err(); err != nil {
		return nil, err
	}
	return render("muster-approver.service.tmpl", struct{ BinDir, Server string }{BinDir, u.Server})
}

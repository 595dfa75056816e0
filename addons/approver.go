// SPDX-License-Identifier: Apache-2.0

package addons

import "github.com/muster-project/muster/pki"

// ApproverRBAC is what `muster-node approve` needs: to see certificate
// requests and the addresses of hosts, and to approve for one signer only.
func ApproverRBAC() (Addon, error) {
	objects, err := load("approver.yaml", struct{ User string }{pki.UserApprover})
	if err != nil {
		return Addon{}, err
	}
	return Addon{Name: "approver", Objects: objects}, nil
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// Operator asks muster, at the other end of the session, for what a host does
// not have itself.
type Operator struct{ Session *protocol.Session }

var _ step.Operator = Operator{}

// Blob opens a blob of the bundle.
func (o Operator) Blob(ctx context.Context, sum string) (io.ReadCloser, error) {
	return protocol.Bytes(ctx, o.Session, protocol.Request{Op: protocol.OpBlob, Name: sum})
}

// Sign has a CSR signed.
func (o Operator) Sign(ctx context.Context, req pki.Request, csr []byte) ([]byte, error) {
	return o.data(ctx, protocol.Request{Op: protocol.OpSign, Certificate: &req, Data: csr})
}

// Authority fetches a CA's certificate.
func (o Operator) Authority(ctx context.Context, ca pki.CA) ([]byte, error) {
	return o.data(ctx, protocol.Request{Op: protocol.OpAuthority, Name: string(ca)})
}

// Token gets a bootstrap token for a node.
func (o Operator) Token(ctx context.Context, node string) (string, error) {
	token, err := o.data(ctx, protocol.Request{Op: protocol.OpToken, Name: node})
	return string(token), err
}

func (o Operator) data(ctx context.Context, r protocol.Request) ([]byte, error) {
	answer, err := protocol.Call[protocol.Data](ctx, o.Session, r)
	return answer.Data, err
}

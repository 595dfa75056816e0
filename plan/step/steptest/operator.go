// SPDX-License-Identifier: Apache-2.0

package steptest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
)

// Operator is the muster command in memory: a bundle, real CAs, and tokens.
type Operator struct {
	// Fail, if set, is the answer to every call: the connection is gone.
	Fail error
	// CutBlob, if not negative, is after how many bytes blobs break off.
	CutBlob int
	// Signed lists the names of the certificates that were signed.
	Signed []string
	// Tokens lists the tokens that were made.
	Tokens []string

	world *World
	blobs map[string][]byte
	cas   map[pki.CA]authority
}

type authority struct{ cert, key []byte }

// ErrCut is how a blob ends that breaks off.
var ErrCut = fmt.Errorf("the connection broke off: %w", io.ErrUnexpectedEOF)

func newOperator(w *World) *Operator {
	o := &Operator{world: w, CutBlob: -1, blobs: map[string][]byte{}, cas: map[pki.CA]authority{}}
	for _, ca := range pki.CAs() {
		o.NewCA(ca)
	}
	return o
}

// NewCA makes a CA anew, as if the host belonged to another cluster.
func (o *Operator) NewCA(ca pki.CA) {
	cert, key, err := pki.NewCA(ca.CommonName(), o.world.Clock, pki.CAValidity)
	if err != nil {
		o.world.T.Fatal(err)
	}
	o.cas[ca] = authority{cert, key}
}

// AddBlob puts content into the bundle.
func (o *Operator) AddBlob(content string) step.Blob {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		o.world.T.Fatal(err)
	}
	compressed := encoder.EncodeAll([]byte(content), nil)
	sum, name := sha256.Sum256([]byte(content)), sha256.Sum256(compressed)
	b := step.Blob{
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content)),
		Compressed: hex.EncodeToString(name[:]), Transfer: int64(len(compressed)),
	}
	o.blobs[b.Compressed] = compressed
	return b
}

// Swap makes one blob's content travel under the name of another.
func (o *Operator) Swap(name, content step.Blob) {
	o.blobs[name.Compressed] = o.blobs[content.Compressed]
}

// Blob opens a blob of the bundle.
func (o *Operator) Blob(_ context.Context, sum string) (io.ReadCloser, error) {
	if o.Fail != nil {
		return nil, o.Fail
	}
	blob, ok := o.blobs[sum]
	if !ok {
		return nil, fmt.Errorf("the bundle has no blob %s", sum)
	}
	if o.CutBlob >= 0 && o.CutBlob < len(blob) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(blob[:o.CutBlob]), iotest.ErrReader(ErrCut))), nil
	}
	return io.NopCloser(bytes.NewReader(blob)), nil
}

// Sign signs with the CA's key.
func (o *Operator) Sign(_ context.Context, req pki.Request, csr []byte) ([]byte, error) {
	if o.Fail != nil {
		return nil, o.Fail
	}
	o.Signed = append(o.Signed, req.Name)
	ca := o.cas[req.CA]
	return pki.Sign(ca.cert, ca.key, csr, req, o.world.Clock)
}

// Authority returns a CA's certificate.
func (o *Operator) Authority(_ context.Context, ca pki.CA) ([]byte, error) {
	if o.Fail != nil {
		return nil, o.Fail
	}
	return o.cas[ca].cert, nil
}

// Token makes a token that is told from every other.
func (o *Operator) Token(_ context.Context, node string) (string, error) {
	if o.Fail != nil {
		return "", o.Fail
	}
	token := fmt.Sprintf("tok%03d.%016d", len(o.Tokens), len(node))
	o.Tokens = append(o.Tokens, token)
	return token, nil
}

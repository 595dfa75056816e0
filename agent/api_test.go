// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/agent"
	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

// certify writes a certificate for a request and its key.
func certify(w *steptest.World, r pki.Request, cert, key string) {
	w.T.Helper()
	s := step.Certificate{Request: r, CertPath: cert, KeyPath: key, CAPath: "/ca.crt"}
	if err := (step.Trust{CA: r.CA, Path: "/ca.crt"}).Do(w.T.Context(), w.Host); err != nil {
		w.T.Fatal(err)
	}
	if err := s.Do(w.T.Context(), w.Host); err != nil {
		w.T.Fatal(err)
	}
}

// server is an API server that insists on client certificates and answers
// with who calls.
func server(w *steptest.World, handle http.HandlerFunc) step.Credentials {
	w.T.Helper()
	w.Clock = time.Now() // as TLS does
	w.Operator.NewCA(pki.Kubernetes)
	certify(w, pki.APIServer(nil, nil), "/server.crt", "/server.key")
	pair, err := tls.X509KeyPair([]byte(w.Read("/server.crt")), []byte(w.Read("/server.key")))
	if err != nil {
		w.T.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(w.Read("/ca.crt")))
	s := httptest.NewUnstartedServer(handle)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.StartTLS()
	w.T.Cleanup(s.Close)
	certify(w, pki.Admin("anna"), "/admin.crt", "/admin.key")
	return step.Credentials{Server: s.URL, CA: "/ca.crt", Cert: "/admin.crt", Key: "/admin.key"}
}

func whoCalls(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %s %s as %s", r.Proto, r.Method, r.URL, r.Header.Get("Content-Type"), body, r.TLS.PeerCertificates[0].Subject.CommonName)
}

func TestAPICall(t *testing.T) {
	w := steptest.New(t)
	as := server(w, whoCalls)
	api := &agent.API{Path: w.Host.Path}
	call := func() string {
		t.Helper()
		got, err := api.Call(t.Context(), as, step.Call{Method: http.MethodPatch, Path: "/api/v1/x?force=true", ContentType: "application/json", Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	if got, want := call(), "HTTP/2.0 PATCH /api/v1/x?force=true application/json {} as anna"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A certificate that was rotated is the one that is shown.
	certify(w, pki.Admin("bert"), as.Cert, as.Key)
	if got := call(); !strings.HasSuffix(got, "as bert") {
		t.Errorf("after the rotation: %s", got)
	}
}

func TestAPIStatus(t *testing.T) {
	w := steptest.New(t)
	as := server(w, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusConflict)
		if r.URL.Path == "/status" {
			fmt.Fprint(w, `{"kind":"Status","message":"x already exists"}`)
			return
		}
		fmt.Fprint(w, " etcd is down\n")
	})
	api := &agent.API{Path: w.Host.Path}
	for path, want := range map[string]string{"/status": "x already exists", "/text": "etcd is down"} {
		_, err := api.Call(t.Context(), as, step.Call{Method: http.MethodGet, Path: path})
		var status *step.StatusError
		if !errors.As(err, &status) || *status != (step.StatusError{Code: 409, Message: want}) {
			t.Errorf("%s: %v", path, err)
		}
		_, err = api.Stream(t.Context(), as, step.Call{Method: http.MethodGet, Path: path})
		if !errors.As(err, &status) || status.Message != want {
			t.Errorf("stream %s: %v", path, err)
		}
	}
}

func TestAPIStream(t *testing.T) {
	w := steptest.New(t)
	as := server(w, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "one")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := (&agent.API{Path: w.Host.Path}).Stream(ctx, as, step.Call{Method: http.MethodGet, Path: "/watch"})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	line := make([]byte, 4)
	if _, err := io.ReadFull(stream, line); err != nil || string(line) != "one\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	cancel()
	if _, err := io.ReadAll(stream); err == nil {
		t.Error("the stream ended as if it were whole")
	}
}

// Files that prove nothing are named.
func TestAPICredentials(t *testing.T) {
	for path, want := range map[string]string{
		"/ca.crt": "/ca.crt: no certificate in it", "/admin.crt": "/admin.crt, /admin.key: ", "/admin.key": "/admin.crt, /admin.key: ",
	} {
		w := steptest.New(t)
		as := server(w, whoCalls)
		w.Write(path, 0o600, "not PEM")
		_, err := (&agent.API{Path: w.Host.Path}).Call(t.Context(), as, step.Call{Method: http.MethodGet, Path: "/"})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("broken %s: %v", path, err)
		}
		w.Remove(path)
		if _, err := (&agent.API{Path: w.Host.Path}).Call(t.Context(), as, step.Call{Method: http.MethodGet, Path: "/"}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("without %s: %v", path, err)
		}
	}
}

// A server of another cluster gets no request.
func TestAPIOtherCA(t *testing.T) {
	w := steptest.New(t)
	as := server(w, func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })
	w.Operator.NewCA(pki.Kubernetes)
	certify(w, pki.Admin("anna"), as.Cert, as.Key)
	var unknown x509.UnknownAuthorityError
	if _, err := (&agent.API{Path: w.Host.Path}).Call(t.Context(), as, step.Call{Method: http.MethodGet, Path: "/"}); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/muster-project/muster/pki"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

const program = "/opt/muster/bin/app"

// noise is text that does not compress to nothing.
func noise(n int) string {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	text := make([]byte, n)
	for i := range text {
		text[i] = byte(random.IntN(64))
	}
	return string(text)
}

// A blob that is not what the bundle promised is refused and the old program
// stays whole, with nothing left beside it.
func TestInstallRefusesWrongContent(t *testing.T) {
	w := steptest.New(t)
	w.Write(program, 0o755, "the old one")
	good, other := w.Operator.AddBlob("the new one"), w.Operator.AddBlob("the neW one")
	w.Operator.Swap(good, other)
	before := w.Tree()
	s := step.Install{Path: program, Mode: 0o755, Blob: good}
	if err := s.Do(t.Context(), w.Host); !errors.Is(err, step.ErrContent) {
		t.Errorf("got %v", err)
	}
	if after := w.Tree(); after != before {
		t.Errorf("the host changed from\n%s\nto\n%s", before, after)
	}
}

// The connection breaks after every so many bytes: the old program stays, and
// running again converges.
func TestInstallCutEverywhere(t *testing.T) {
	w := steptest.New(t)
	w.Write(program, 0o755, "the old one")
	blob := w.Operator.AddBlob(noise(100_000))
	s := step.Install{Path: program, Mode: 0o755, Blob: blob}
	before := w.Tree()
	for cut := 0; cut < int(blob.Transfer); cut += 997 {
		w.Operator.CutBlob = cut
		if err := s.Do(t.Context(), w.Host); !errors.Is(err, steptest.ErrCut) {
			t.Fatalf("cut after %d of %d bytes: got %v", cut, blob.Transfer, err)
		}
		if after := w.Tree(); after != before {
			t.Fatalf("cut after %d bytes: the host changed from\n%s\nto\n%s", cut, before, after)
		}
		done(t, w, s, false)
	}
	w.Operator.CutBlob = -1
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	done(t, w, s, true)
}

// A blob that ends where a zstd frame does unpacks without an error; only its
// sum tells that there should be more.
func TestInstallShortBlob(t *testing.T) {
	w := steptest.New(t)
	whole := w.Operator.AddBlob(strings.Repeat("one frame", 10))
	half := w.Operator.AddBlob(strings.Repeat("one frame", 5))
	w.Operator.Swap(whole, half)
	s := step.Install{Path: program, Mode: 0o755, Blob: whole}
	if err := s.Do(t.Context(), w.Host); !errors.Is(err, step.ErrContent) || w.Exists(program) {
		t.Errorf("got %v", err)
	}
}

func TestInstallUnknownBlob(t *testing.T) {
	w := steptest.New(t)
	s := step.Install{Path: program, Mode: 0o755, Blob: step.Blob{SHA256: "00", Compressed: "11"}}
	if err := s.Do(t.Context(), w.Host); err == nil || !strings.Contains(err.Error(), "fetch blob 11") {
		t.Errorf("got %v", err)
	}
}

func TestInstallString(t *testing.T) {
	for size, want := range map[int64]string{0: "0 MB", 1 << 19: "1 MB", 140_000_000: "134 MB"} {
		s := step.Install{Path: program, Blob: step.Blob{Size: size, SHA256: strings.Repeat("ab", 32)}}
		if got := s.String(); got != "install "+program+" ("+want+", sha256 abababababab)" {
			t.Errorf("%d bytes: %s", size, got)
		}
	}
}

// An archive that breaks off leaves no stamp, whatever containerd made of it.
func TestImageCut(t *testing.T) {
	w := steptest.New(t)
	w.Write("/opt/muster/bin/ctr", 0o755, "ELF")
	blob := w.Operator.AddBlob("pause:3.10\n" + noise(50_000))
	s := step.Image{Ref: "pause:3.10", Blob: blob}
	for cut := 0; cut < int(blob.Transfer); cut += 5003 {
		w.Operator.CutBlob = cut
		if err := s.Do(t.Context(), w.Host); !errors.Is(err, steptest.ErrCut) {
			t.Fatalf("cut after %d bytes: got %v", cut, err)
		}
		w.Exec.Images["pause:3.10"] = "half of it"
		done(t, w, s, false)
	}
	w.Operator.CutBlob = -1
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	done(t, w, s, true)
	if w.Exec.Images["pause:3.10"] != blob.SHA256 {
		t.Errorf("containerd has %v", w.Exec.Images)
	}
}

// Without ctr nothing was ever imported: that is "no", not "could not ask".
func TestImageBeforeContainerd(t *testing.T) {
	w := steptest.New(t)
	blob := w.Operator.AddBlob("x\n")
	w.Write("/var/lib/muster/images/x", 0o644, blob.SHA256)
	done(t, w, step.Image{Ref: "x", Blob: blob}, false)
}

// A certificate is made in two writes. Cut between them, or with the signer
// gone, the next run makes both anew.
func TestCertificateCut(t *testing.T) {
	w := steptest.New(t)
	trust(w, pkiDir+"/ca.crt")
	r := pki.Scheduler()
	s := step.Certificate{Request: r, CertPath: "/etc/out/" + r.CertFile(), KeyPath: pkiDir + "/" + r.KeyFile(), CAPath: pkiDir + "/ca.crt"}
	w.Operator.Fail = errSilent
	before := w.Tree()
	if err := s.Do(t.Context(), w.Host); !errors.Is(err, errSilent) || w.Tree() != before {
		t.Errorf("signer gone: %v, host:\n%s", err, w.Tree())
	}
	w.Operator.Fail = nil
	w.Write("/etc/out", 0o644, "") // where the certificate's folder should be
	if err := s.Do(t.Context(), w.Host); err == nil || !w.Exists(s.KeyPath) {
		t.Fatalf("not cut between key and certificate: %v", err)
	}
	w.Remove("/etc/out")
	done(t, w, s, false)
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	done(t, w, s, true)
	if len(w.Operator.Signed) != 2 {
		t.Errorf("signed %v", w.Operator.Signed)
	}
}

// The bootstrap kubeconfig is for root's eyes only, and a certificate of
// another cluster is out of the way.
func TestBootstrapWrites(t *testing.T) {
	w := steptest.New(t)
	s := bootstrapSample().make(w).(step.Bootstrap)
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(w.Host.Path(s.Path))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text := w.Read(s.Path)
	for _, want := range []string{"server: https://10.0.0.11:6443\n", "token: " + w.Operator.Tokens[0] + "\n", "current-context: bootstrap\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if w.Exists(kubeletCert) || w.Exists(s.Config) {
		t.Error("the kubelet would use what is left of another cluster")
	}
	done(t, w, s, false)
}

// A process that was killed while it wrote leaves a part beside the file; the
// next attempt takes it away.
func TestWriteAfterKill(t *testing.T) {
	w := steptest.New(t)
	s := step.Install{Path: program, Mode: 0o755, Blob: w.Operator.AddBlob("the new one")}
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	want := w.Tree()
	w.Write(program, 0o755, "the old one")
	w.Write(step.Temporary(program), 0o600, "the ne")
	if err := s.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	if got := w.Tree(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Tasks of a host that run at once may make the same file.
func TestWriteSideBySide(t *testing.T) {
	w := steptest.New(t)
	s := step.Install{Path: program, Mode: 0o755, Blob: w.Operator.AddBlob(noise(1 << 20))}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := s.Do(t.Context(), w.Host); err != nil {
				t.Error(err)
			}
			if now, err := s.Done(t.Context(), w.Host); !now || err != nil {
				t.Errorf("half a file: %t, %v", now, err)
			}
		})
	}
	all.Wait()
}

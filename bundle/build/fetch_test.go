// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-project/muster/bundle"
)

// site serves release files, remembers what was asked of it, and can be told to
// cut its answers.
type site struct {
	files    map[string][]byte
	asked    []string                                 // "PATH" or "PATH from N"
	cut      func(w http.ResponseWriter, body []byte) // answers for files that are no checksums; nil: whole
	noRanges bool
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/mirror/")
	body, ok := s.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if !strings.Contains(name, "sha256") {
		from := strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
		s.asked = append(s.asked, strings.TrimSuffix(name+" from "+from, " from "))
		if s.cut != nil {
			s.cut(w, body)
			return
		}
		if s.noRanges {
			_, _ = w.Write(body)
			return
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func sha(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// released is a release of one bare program and one archive.
func released() recipe {
	return recipe{
		name: "tool", version: "1", group: bundle.Core, license: "MIT", module: "example.org/tool@v1",
		makers: []maker{testMaker{in: "built, although there is a release"}},
		release: &release{files: []releaseFile{
			{path: "v1/bin/kubelet", checksum: "v1/bin/kubelet.sha256", program: "kubelet"},
			{path: "tool/v1/tool.tgz", checksum: "tool/v1/SHA256SUMS.sha256", members: map[string]string{"bin/runc": "runc"}},
		}},
	}
}

func tgz(t *testing.T, members ...[2]string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m[0], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(m[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func newSite(t *testing.T) *site {
	kubelet := bytes.Repeat([]byte("kubelet "), 1000)
	archive := tgz(t, [2]string{"./bin/other", "other"}, [2]string{"./bin/runc", "runc"}, [2]string{"../../bin/runc", "outside"})
	return &site{files: map[string][]byte{
		"v1/bin/kubelet":            kubelet,
		"v1/bin/kubelet.sha256":     []byte(sha(kubelet)),
		"tool/v1/tool.tgz":          archive,
		"tool/v1/SHA256SUMS.sha256": []byte(sha([]byte("x")) + "  other.tgz\n" + sha(archive) + " *tool.tgz\n"),
	}}
}

// serve returns the URL of a site.
func (s *site) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL + "/mirror"
}

// store returns a directory with the files of a site.
func (s *site) store(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, raw := range s.files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, raw, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFrom(t *testing.T) {
	var versions []string
	for _, source := range []func(*site, *testing.T) string{(*site).serve, (*site).store} {
		y, s := newYard(t), newSite(t)
		y.options.From = source(s, t)
		b := y.mustBuild(t, []recipe{released(), fileRecipe("unreleased", "built")})
		if got := string(content(t, b, "tool", "kubelet")); got != string(s.files["v1/bin/kubelet"]) {
			t.Errorf("kubelet has %d bytes", len(got))
		}
		if got := string(content(t, b, "tool", "runc")) + string(content(t, b, "unreleased", "file")); got != "runcbuilt" {
			t.Errorf("got %q", got)
		}
		a, err := b.Lookup("tool")
		if err != nil || a.Module != "release of example.org/tool@v1" || a.Toolchain != "" || a.Files[0].Mode != 0o755 {
			t.Errorf("artifact %+v, %v", a, err)
		}
		if left, err := os.ReadDir(downloads(y.options.Cache)); err != nil || len(left) > 0 {
			t.Errorf("downloads left: %v, %v", left, err)
		}
		y.mustBuild(t, []recipe{released()})
		if y.told() != "tool cached" {
			t.Errorf("second time: %s", y.told())
		}
		if s.asked != nil && len(s.asked) != 2 {
			t.Errorf("files fetched: %v", s.asked)
		}
		versions = append(versions, b.Version())
	}
	if versions[0] != versions[1] {
		t.Errorf("a server gives %s and a directory %s", versions[0], versions[1])
	}
}

func TestFromRefuses(t *testing.T) {
	const k = "v1/bin/kubelet"
	for name, c := range map[string]struct {
		damage func(*site)
		want   string
	}{
		"flipped bit":        {func(s *site) { s.files[k][7] ^= 1 }, "and its project says"},
		"cut file":           {func(s *site) { s.files[k] = s.files[k][:100] }, "refused"},
		"empty file":         {func(s *site) { s.files[k] = nil }, "refused"},
		"missing file":       {func(s *site) { delete(s.files, k) }, "404"},
		"missing checksum":   {func(s *site) { delete(s.files, k+".sha256") }, "without a checksum v1/bin/kubelet is not used"},
		"empty checksum":     {func(s *site) { s.files[k+".sha256"] = nil }, "the checksum file has none"},
		"checksum of others": {func(s *site) { s.files[k+".sha256"] = []byte(sha(s.files[k]) + "  kubectl\n") }, "the checksum file has none"},
		"no checksum":        {func(s *site) { s.files[k+".sha256"] = []byte("<html>") }, "is no SHA256"},
		"two checksums":      {func(s *site) { s.files[k+".sha256"] = []byte(sha(nil) + "\n" + sha(s.files[k])) }, "two different ones"},
		"other archive":      {func(s *site) { s.replaceArchive([]byte("no gzip")) }, "decompress"},
		"cut archive": {func(s *site) {
			a := s.files["tool/v1/tool.tgz"]
			s.replaceArchive(a[:len(a)-20])
		}, "tool.tgz"},
	} {
		y, s := newYard(t), newSite(t)
		before := y.mustBuild(t, []recipe{fileRecipe("a", "1")}).Version()
		c.damage(s)
		y.options.From = s.serve(t)
		_, err := y.build(t, []recipe{released()})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", name, err, c.want)
		}
		if b, err := bundle.Open(y.options.Out); err != nil || b.Version() != before || len(b.Verify(t.Context())) > 0 {
			t.Errorf("%s: the bundle has changed: %v", name, err)
		}
		for _, left := range []string{"artifacts/tool/*", "tmp/*", "downloads/*.part"} {
			if files, _ := filepath.Glob(filepath.Join(y.options.Cache, left)); len(files) > 0 {
				t.Errorf("%s: left behind: %v", name, files)
			}
		}
	}
}

func (s *site) replaceArchive(raw []byte) {
	s.files["tool/v1/tool.tgz"] = raw
	s.files["tool/v1/SHA256SUMS.sha256"] = []byte(sha(raw) + "  tool.tgz\n")
}

func TestFromRefusesAnArchiveThatLacksAProgram(t *testing.T) {
	y, s := newYard(t), newSite(t)
	s.replaceArchive(tgz(t, [2]string{"bin/other", "other"}))
	y.options.From = s.serve(t)
	if _, err := y.build(t, []recipe{released()}); err == nil || !strings.Contains(err.Error(), "the archive lacks bin/runc") {
		t.Errorf("got %v", err)
	}
}

// A download that was cut is gone on with, if the server can, and begun again
// if it cannot. Either way nothing half-fetched is used.
func TestFromGoesOnAfterACut(t *testing.T) {
	for _, c := range []struct {
		name     string
		noRanges bool
		at       int
		want     string
	}{
		{"server with ranges", false, 5000, "v1/bin/kubelet from 5000"},
		{"server without ranges", true, 5000, "v1/bin/kubelet from 5000"},
		{"cut before the last byte", false, 7999, "v1/bin/kubelet from 7999"},
	} {
		y, s := newYard(t), newSite(t)
		y.options.From = s.serve(t)
		s.cut = func(w http.ResponseWriter, body []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:min(c.at, len(body))])
		}
		if _, err := y.build(t, []recipe{released()}); err == nil || !strings.Contains(err.Error(), "run it again to go on") {
			t.Errorf("%s: cut: %v", c.name, err)
		}
		if _, err := bundle.Open(y.options.Out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is a bundle: %v", c.name, err)
		}
		s.cut, s.noRanges, s.asked = nil, c.noRanges, nil
		y.mustBuild(t, []recipe{released()})
		if want := []string{c.want, "tool/v1/tool.tgz"}; !slices.Equal(s.asked, want) {
			t.Errorf("%s: asked for %v, want %v", c.name, s.asked, want)
		}
	}
}

// What is whole already is not refused because there is nothing more to send,
// and of what is too long nothing stays.
func TestFromGoesOnAfterTheLastByte(t *testing.T) {
	for name, more := range map[string]string{"whole": "", "too long": "something else"} {
		y, s := newYard(t), newSite(t)
		y.options.From = s.serve(t)
		raw := s.files["v1/bin/kubelet"]
		part := filepath.Join(downloads(y.options.Cache), sha(raw)+".part")
		if err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o755), os.WriteFile(part, append(raw[:len(raw):len(raw)], more...), 0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := y.build(t, []recipe{released()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFromEndsWithItsContext(t *testing.T) {
	y, s := newYard(t), newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	y.options.From = s.serve(t)
	release := make(chan struct{})
	s.cut = func(w http.ResponseWriter, body []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:100])
		w.(http.Flusher).Flush()
		cancel()
		<-release
	}
	_, err := buildAll(ctx, y.options, []recipe{released()})
	close(release)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := bundle.Open(y.options.Out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a bundle: %v", err)
	}
}

func TestParseOrigin(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		dir:                                "",
		"https://mirror.example/k8s":       "",
		filepath.Join(dir, "none"):         "no such file",
		file:                               "is no directory",
		"ftp://mirror.example/":            "want a directory, or a URL with http or https",
		"http:///path":                     "and a host",
		"ftp://me:secret@mirror.example/x": "me:xxxxx@",
	} {
		_, err := parseOrigin(from)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", from, err, want)
		}
	}
}

// Passwords in a URL stay out of error messages.
func TestFromHidesPasswords(t *testing.T) {
	y := newYard(t)
	for _, address := range []string{strings.Replace(newSite(t).serve(t), "//", "//me:secret@", 1) + "/none", "http://me:secret@127.0.0.1:1/"} {
		y.options.From = address
		if _, err := y.build(t, []recipe{released()}); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "me:xxxxx@") {
			t.Errorf("got %v", err)
		}
	}
}

func TestParseChecksum(t *testing.T) {
	a, b := sha([]byte("a")), sha([]byte("b"))
	for _, c := range []struct{ text, want string }{
		{a, a},
		{a + "\n", a},
		{strings.ToUpper(a), a},
		{a + "  tool", a},
		{a + " *tool\n", a},
		{a + "  ./release/tool\r\n", a},
		{b + "  other\n\n" + a + "  tool\n", a},
		{"# comment of many words\n" + a + "  tool", a},
		{a + "  tool\n" + a + "  tool\n", a},
		{"", ""},
		{b + "  other", ""},
		{a[1:], ""},
		{a + "0", ""},
		{a + "  tool\n" + b + "  tool", ""},
		{strings.Repeat("x", 1<<17), ""},
	} {
		got, err := parseChecksum([]byte(c.text), "tool")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%.80q: got %q, %v", c.text, got, err)
		}
	}
}

func FuzzParseChecksum(f *testing.F) {
	f.Add([]byte(sha(nil)), "tool")
	f.Add([]byte(sha(nil)+"  tool\n"), "tool")
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		sum, err := parseChecksum(raw, path.Base(name))
		if err == nil && (len(sum) != 64 || !strings.Contains(strings.ToLower(string(raw)), sum)) {
			t.Errorf("%q: made up %q", raw, sum)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// origin is where release files are: a directory or a web server.
type origin struct {
	dir string   // or
	url *url.URL // http or https
}

func parseOrigin(from string) (origin, error) {
	if !strings.Contains(from, "://") {
		info, err := os.Stat(from)
		if err != nil {
			return origin{}, fmt.Errorf("release files: %w", err)
		}
		if !info.IsDir() {
			return origin{}, fmt.Errorf("release files: %s is no directory", from)
		}
		return origin{dir: from}, nil
	}
	u, err := url.Parse(from)
	if err != nil {
		return origin{}, fmt.Errorf("release files: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return origin{}, fmt.Errorf("release files: %s: want a directory, or a URL with http or https and a host", u.Redacted())
	}
	return origin{url: u}, nil
}

// name is path in o, for people: without a password.
func (o origin) name(path string) string {
	if o.url == nil {
		return filepath.Join(o.dir, filepath.FromSlash(path))
	}
	return o.url.JoinPath(path).Redacted()
}

// open opens a file at an offset. A server need not know how to begin in the
// middle: at is where the reader really begins, offset or 0.
func (o origin) open(ctx context.Context, client *http.Client, path string, offset int64) (r io.ReadCloser, at int64, err error) {
	if o.url == nil {
		r, err := o.openFile(path, offset)
		return r, offset, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url.JoinPath(path).String(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s: %w", o.name(path), err)
	}
	// A file stored compressed would be decompressed on the way, and its
	// checksum is that of the stored one.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s: %w", o.name(path), withoutURL(err))
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)):
		return resp.Body, offset, nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && offset > 0:
		// There is as much here as there is there, or the file has changed.
		resp.Body.Close()
		return o.open(ctx, client, path, 0)
	}
	resp.Body.Close()
	return nil, 0, fmt.Errorf("fetch %s: the server answers %s", o.name(path), resp.Status)
}

func (o origin) openFile(path string, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(o.name(path))
	if err != nil {
		return nil, fmt.Errorf("release files: %w", err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("release files: %w", err)
	}
	return f, nil
}

// withoutURL takes the URL, which may hold a password, out of an HTTP client's
// error.
func withoutURL(err error) error {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"github.com/muster-project/muster/remote"
)

// How much SFTP has under way, and the size of each write. OpenSSH takes
// 256 KiB packets; other servers need not take more than 32 KiB (SFTP draft 2,
// section 3). More under way than a near host needs only waits in sshd, whose
// buffer grows by a copy for every 32 KiB.
const (
	underWay      = 512 << 10
	packetOpenSSH = 250 << 10
	packetOther   = 32 << 10
)

// finishScript puts an uploaded file in its place, as root: checked, with owner
// and mode set before it has its name, and on disk before and after.
// Arguments: uploaded file, file beside the destination, destination, mode, sum.
// Exit code 65 is a wrong sum; what was found is on standard output then.
const finishScript = `set -eu
up=$1 part=$2 dest=$3 mode=$4 want=$5
dir=${dest%/*}; dir=${dir:-/}
if [ "$up" != "$part" ]; then
	[ -d "$dir" ] || (umask 022; mkdir -p -- "$dir")
	umask 077; cp -- "$up" "$part"; rm -f -- "$up"
fi
got=$(sha256sum < "$part"); got=${got%% *}
if [ "$got" != "$want" ]; then rm -f -- "$part"; echo "$got"; exit 65; fi
[ "$(id -u)" != 0 ] || chown 0:0 -- "$part"
chmod -- "$mode" "$part"
sync "$part"
mv -f -T -- "$part" "$dest"
sync "$dir"
`

const wrongSum = 65

// Upload puts size bytes of r at an absolute path on the host, owned by root,
// with the mode. The old file stays until the new one is whole and has the
// SHA-256 sum (in hex); missing directories above it are made with mode 0755.
// An upload that was cut leaves one hidden file, which the next one of the same
// content writes over; two uploads of one file at once are not for it.
func (c *Conn) Upload(ctx context.Context, dest string, mode fs.FileMode, r io.Reader, size int64, sha256hex string) error {
	wrap := func(err error) error { return fmt.Errorf("upload %s to %s: %w", dest, c.Address(), err) }
	if !path.IsAbs(dest) || path.Clean(dest) != dest || dest == "/" {
		return wrap(errors.New("not an absolute, clean path of a file"))
	}
	if len(sha256hex) != 64 {
		return wrap(fmt.Errorf("%q is not a SHA-256 sum in hex", sha256hex))
	}
	part := fmt.Sprintf("%s/.%s.%s.part", strings.TrimSuffix(path.Dir(dest), "/"), path.Base(dest), sha256hex[:16])
	up, err := c.send(ctx, part, r, size)
	if err != nil {
		return wrap(err)
	}
	octal := fmt.Sprintf("%04o", mode.Perm())
	res, err := c.Run(ctx, remote.Cmd{Argv: []string{"sh", "-c", finishScript, "muster-upload", up, part, dest, octal, strings.ToLower(sha256hex)}})
	var exit *remote.ExitError
	if errors.As(err, &exit) {
		if exit.Code == wrongSum {
			return wrap(fmt.Errorf("its SHA-256 sum there is %s, not %s: the source or the way there is damaged; nothing was replaced",
				strings.TrimSpace(string(res.Stdout)), sha256hex))
		}
		return wrap(fmt.Errorf("put it in place: %s (exit code %d)", strings.TrimSpace(exit.Stderr), exit.Code))
	}
	if err != nil {
		return wrap(err)
	}
	return nil
}

// send writes r to the host by SFTP and gives the path it wrote: part, or where
// the user is not root a file in the user's home, which nobody else can reach.
func (c *Conn) send(ctx context.Context, part string, r io.Reader, size int64) (up string, err error) {
	s, err := c.startSubsystem(ctx, "sftp")
	if err != nil {
		return "", fmt.Errorf("%w; is the SFTP subsystem on in sshd_config?", err)
	}
	defer s.Close()
	client, err := sftp.NewClientPipe(s, inputOf{s},
		sftp.UseConcurrentWrites(true), sftp.MaxConcurrentRequestsPerFile(underWay/c.packetSize()), sftp.MaxPacketUnchecked(c.packetSize()))
	if err != nil {
		return "", s.orEnd(err)
	}
	up = part
	if c.target.user != "root" {
		home, err := client.Getwd()
		if err != nil {
			return "", s.orEnd(err)
		}
		up = path.Join(home, path.Base(part))
	}
	if err := write(client, up, r, size); err != nil {
		// A reader's error leaves a file behind that nobody needs. When the
		// connection is gone, this returns at once.
		_ = client.Remove(up)
		return "", s.orEnd(err)
	}
	return up, nil
}

// orEnd prefers the reason for which the session ended: SFTP only sees that it did.
func (s *Session) orEnd(err error) error {
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, sftp.ErrSSHFxConnectionLost) {
		return cmp.Or(s.ended(), err)
	}
	select {
	case <-s.done:
	case <-grace.C: // the output ended but not the session
	}
	return cmp.Or(s.ended(), err)
}

func (s *Session) ended() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

func write(client *sftp.Client, name string, r io.Reader, size int64) (err error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	f, err := client.OpenFile(name, flags)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(client, path.Dir(name)); err != nil {
			return err
		}
		f, err = client.OpenFile(name, flags)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(0o600); err != nil { // before it holds anything
		return fmt.Errorf("protect %s: %w", name, err)
	}
	n, err := f.ReadFrom(&exactly{r: r, left: size})
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	return nil
}

// makeDirs makes a directory and those above it with mode 0755, whatever the
// umask of the login is.
func makeDirs(client *sftp.Client, dir string) error {
	if info, err := client.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if dir != "/" {
		if err := makeDirs(client, path.Dir(dir)); err != nil {
			return err
		}
	}
	if err := client.Mkdir(dir); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	if err := client.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	return nil
}

// packetSize fits the server at the end of the chain.
func (c *Conn) packetSize() int {
	if strings.Contains(string(c.client().ServerVersion()), "OpenSSH") {
		return packetOpenSSH
	}
	return packetOther
}

// exactly gives r's bytes and complains when they are not as many as announced.
// Its Size tells the SFTP client that it may write concurrently.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Size() int64 { return e.left }

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if e.left < 0 {
		return n, errors.New("the source is longer than announced")
	}
	if err == io.EOF && e.left > 0 {
		return n, fmt.Errorf("the source is %d bytes shorter than announced", e.left)
	}
	return n, err
}

// inputOf is a session's input, whose Close is only the end of it.
type inputOf struct{ *Session }

func (i inputOf) Close() error { return i.CloseWrite() }

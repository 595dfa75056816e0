// SPDX-License-Identifier: Apache-2.0

//go:build kernel

package takeover_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-project/muster/proxier/kerneltest"
	"github.com/vishvananda/netns"
)

// Tests with the build tag `kernel` need root, a kernel with IPVS, and the
// programs kube-proxy and muster-proxier in the working directory. They fail
// where they cannot run.
func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, nil)) }

const patience = 60 * time.Second // a lab machine shares its core

// network makes the machines around the node: two pods with a server, a pod
// that is a client, and a machine that is no part of the cluster.
func network(t *testing.T) {
	t.Helper()
	kerneltest.Shell(t, `mount --make-rprivate /
mkdir -p /run/netns && mount -t tmpfs none /run/netns
ip link set lo up
ip link add eth0 type veth peer name eth0-peer
ip link set eth0 up; ip link set eth0-peer up
ip addr add 192.0.2.1/24 dev eth0; ip -6 addr add 2001:db8::1/64 dev eth0 nodad
ip route add default via 192.0.2.254 dev eth0; ip -6 route add default via 2001:db8::fe dev eth0
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding`)
	machine(t, "a", "10.244.0.1 fd00:244::1", "10.244.0.2 fd00:244::2")
	machine(t, "b", "10.244.0.1 fd00:244::1", "10.244.0.3 fd00:244::3")
	machine(t, "client", "10.244.0.1 fd00:244::1", "10.244.0.9 fd00:244::9")
	machine(t, "outside", "198.51.100.1 2001:db8:9::1", "198.51.100.9 2001:db8:9::9")
	t.Cleanup(func() {
		_ = exec.Command("./kube-proxy", "--cleanup").Run() // it complains of what is not there
		kerneltest.Shell(t, `ip link del kube-ipvs0 2>/dev/null || true; ipset destroy
for n in a b client outside; do ip netns del $n; ip link del to-$n 2>/dev/null || true; done; ip link del eth0; umount /run/netns`)
	})
	serve(t, "a")
	serve(t, "b")
}

// machine is a namespace on a cable to the node, with an IPv4 and an IPv6
// address on either end.
func machine(t *testing.T, name, nodeSide, own string) {
	t.Helper()
	here, there := strings.Fields(nodeSide), strings.Fields(own)
	kerneltest.Shell(t, fmt.Sprintf(`ip netns add %[1]s
ip link add to-%[1]s type veth peer name eth0 netns %[1]s
ip link set to-%[1]s up; ip -n %[1]s link set lo up; ip -n %[1]s link set eth0 up
ip addr add %[2]s/32 dev to-%[1]s; ip -6 addr add %[3]s/128 dev to-%[1]s nodad
ip -n %[1]s addr add %[4]s/32 dev eth0; ip -n %[1]s -6 addr add %[5]s/128 dev eth0 nodad
ip -n %[1]s route add %[2]s dev eth0; ip -n %[1]s route add default via %[2]s
ip -n %[1]s -6 route add %[3]s dev eth0; ip -n %[1]s -6 route add default via %[3]s
ip route add %[4]s dev to-%[1]s; ip -6 route add %[5]s dev to-%[1]s`,
		name, here[0], here[1], there[0], there[1]))
}

// in runs f in a machine's namespace; "" is the node.
func in(name string, f func() error) error {
	if name == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		handle, err := netns.GetFromName(name)
		if err == nil {
			defer handle.Close()
			err = netns.Set(handle)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// serve answers each TCP connection to port 8080 with the machine's name, and
// each line after that with itself.
func serve(t *testing.T, name string) {
	t.Helper()
	err := in(name, func() error {
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					fmt.Fprintln(c, name)
					for lines := bufio.NewScanner(c); lines.Scan(); {
						fmt.Fprintln(c, lines.Text())
					}
				}()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// stream is a connection that says something again and again and fails if
// it is not said back.
type stream struct {
	what  string
	conn  net.Conn
	lines *bufio.Reader
	said  atomic.Int64
	fault atomic.Pointer[error]
	quit  chan struct{}
	done  sync.WaitGroup
}

func dial(from, to string) (net.Conn, *bufio.Reader, error) {
	var c net.Conn
	var lines *bufio.Reader
	err := in(from, func() (err error) {
		c, err = net.DialTimeout("tcp", to, 5*time.Second)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, nil, err
	}
	lines = bufio.NewReader(c)
	if _, err := lines.ReadString('\n'); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, lines, nil
}

func open(t *testing.T, from, to string) *stream {
	t.Helper()
	s := &stream{what: from + " -> " + to, quit: make(chan struct{})}
	var err error
	if s.conn, s.lines, err = dial(from, to); err != nil {
		t.Fatalf("%s: %v", s.what, err)
	}
	s.done.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-s.quit:
				// With a reset, which IPVS forgets in seconds, not minutes.
				_ = s.conn.(*net.TCPConn).SetLinger(0)
				s.conn.Close()
				return
			case <-tick.C:
			}
			err := s.conn.SetDeadline(time.Now().Add(patience))
			if err == nil {
				_, err = fmt.Fprintln(s.conn, "still there?")
			}
			if err == nil {
				_, err = s.lines.ReadString('\n')
			}
			if err != nil {
				s.fault.CompareAndSwap(nil, &err)
				return
			}
			s.said.Add(1)
		}
	})
	t.Cleanup(s.close)
	return s
}

func (s *stream) close() {
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.done.Wait()
}

// lives fails the test unless the stream says something more now.
func (s *stream) lives(t *testing.T) {
	t.Helper()
	before := s.said.Load()
	eventually(t, s.what+" goes on", func() bool { return s.said.Load() > before+2 || s.fault.Load() != nil })
	if err := s.fault.Load(); err != nil {
		t.Errorf("%s broke: %v", s.what, *err)
	}
}

// hammer makes new connections all the time; its result is stopped and
// counted by calling it.
func hammer(t *testing.T, from, to string) (stop func()) {
	quit := make(chan struct{})
	var good, bad int
	var first error
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(10 * time.Millisecond):
			}
			c, _, err := dial(from, to)
			if err != nil {
				bad++
				if first == nil {
					first = err
				}
				continue
			}
			c.Close()
			good++
		}
	})
	return func() {
		t.Helper()
		close(quit)
		work.Wait()
		t.Logf("%s -> %s: %d new connections, %d failed", from, to, good, bad)
		if bad > 0 || good == 0 {
			t.Errorf("%s -> %s: %d of %d new connections failed, first: %v", from, to, bad, good+bad, first)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); {
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// program is a process on the node.
type program struct {
	cmd *exec.Cmd
	out *output
	end chan error
}

// output is what a process said so far.
type output struct {
	mu sync.Mutex
	bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Buffer.String()
}

// start runs a program of the working directory; env is added to its
// environment.
func start(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: exec.Command(filepath.Join(dir, name), args...), out: &output{}, end: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // it is this thread's death that would end the program
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.end <- p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *program) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-p.end:
		p.end <- err
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		t.Errorf("%s did not end; it said\n%s", p.cmd.Path, p.out.text())
	}
}

// says waits for a line of the program's.
func (p *program) says(t *testing.T, text string) {
	t.Helper()
	for begin := time.Now(); !strings.Contains(p.out.text(), text); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-p.end:
			p.end <- err
			t.Fatalf("%s ended (%v) and never said %q but\n%s", p.cmd.Path, err, text, p.out.text())
		default:
		}
		if time.Since(begin) > patience {
			t.Fatalf("%s does not say %q but\n%s", p.cmd.Path, text, p.out.text())
		}
	}
}

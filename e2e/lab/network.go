// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridge is the switch that all machines of a lab are plugged into.
const bridge = "lab0"

// namespaceDir is where iproute2 looks for named network namespaces.
const namespaceDir = "/run/netns"

func namespaceOf(lab string) string { return "muster-" + lab }

// onThread runs f on a thread of its own that is in the namespace (unless it
// is closed) and allowed on one processor only (unless core is negative).
// Processes that f starts inherit both.
func onThread(ns netns.NsHandle, core int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked, so the changed thread ends with this goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread cannot end, and a process is in the namespace that
			// its main thread is in. While it is locked, another one gets the work.
			done <- onThread(ns, core, f)
			runtime.UnlockOSThread()
			return
		}
		if core >= 0 {
			var set unix.CPUSet
			set.Set(core)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				done <- fmt.Errorf("run on processor %d: %w", core, err)
				return
			}
		}
		if ns.IsOpen() {
			if err := netns.Set(ns); err != nil {
				done <- fmt.Errorf("enter the network namespace: %w", err)
				return
			}
		}
		done <- f()
	}()
	return <-done
}

// openNamespace gives the lab's namespace; fs.ErrNotExist when there is none.
func openNamespace(name string) (netns.NsHandle, error) {
	path := filepath.Join(namespaceDir, name)
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return netns.None(), fmt.Errorf("open network namespace %s: %w", path, err)
	}
	// A making that was cut between the file and its mount left a plain file.
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(ns), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return netns.None(), errors.Join(err, ns.Close(), os.Remove(path),
			fmt.Errorf("open network namespace %s: %w", path, fs.ErrNotExist))
	}
	return ns, nil
}

// ensureNamespace gives the lab's namespace and makes it when there is none.
func ensureNamespace(name string) (netns.NsHandle, error) {
	ns, err := openNamespace(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return ns, err
	}
	err = onThread(netns.None(), -1, func() error {
		var err error
		ns, err = netns.NewNamed(name)
		return err
	})
	if err != nil {
		return netns.None(), fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return ns, nil
}

// network is the inside of a lab's namespace.
type network struct{ handle *netlink.Handle }

func openNetwork(ns netns.NsHandle) (network, error) {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return network{}, fmt.Errorf("open netlink in the lab's namespace: %w", err)
	}
	return network{h}, nil
}

func (n network) close() { n.handle.Close() }

// ensure makes the bridge with the gateway's address and one tap per machine;
// what exists stays as it is, so that a cut link stays cut.
func (n network) ensure(machines []machineRecord) error {
	lo, err := n.handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	if err := n.handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback device up: %w", err)
	}
	br, err := n.ensureBridge()
	if err != nil {
		return fmt.Errorf("make bridge %s: %w", bridge, err)
	}
	for _, m := range machines {
		if err := n.ensureTap(tapOf(m.Address), br); err != nil {
			return fmt.Errorf("make tap device %s for %s: %w", tapOf(m.Address), m.Name, err)
		}
	}
	return nil
}

func (n network) ensureBridge() (netlink.Link, error) {
	br, err := n.handle.LinkByName(bridge)
	if isNoLink(err) {
		gateway := netip.MustParseAddr(gatewayAddress)
		mac, merr := net.ParseMAC(macOf(gateway))
		if merr != nil {
			return nil, merr
		}
		err = n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge, HardwareAddr: mac}})
		if err == nil {
			br, err = n.handle.LinkByName(bridge)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := n.addGateway(br); err != nil {
		return nil, err
	}
	return br, n.handle.LinkSetUp(br)
}

// addGateway gives the bridge this computer's addresses in the lab.
func (n network) addGateway(br netlink.Link) error {
	gateway := netip.MustParseAddr(gatewayAddress)
	err := n.handle.AddrReplace(br, &netlink.Addr{IPNet: netOf(gateway, networkPrefix)})
	if err != nil {
		return err
	}
	err = n.handle.AddrReplace(br, &netlink.Addr{IPNet: netOf(address6Of(gateway), networkPrefix6), Flags: unix.IFA_F_NODAD})
	// Where this computer has no IPv6 it reaches the machines by IPv4 only;
	// their kernels are their own, and a bridge carries any frame.
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	return err
}

// netOf is an address with the length of its network's prefix.
func netOf(a netip.Addr, prefix string) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(netip.MustParsePrefix(prefix).Bits(), a.BitLen())}
}

func (n network) ensureTap(name string, br netlink.Link) error {
	if _, err := n.handle.LinkByName(name); !isNoLink(err) {
		return err
	}
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	if err := n.handle.LinkAdd(tap); err != nil {
		return err
	}
	link, err := n.handle.LinkByName(name)
	if err != nil {
		return err
	}
	if err := n.handle.LinkSetMaster(link, br); err != nil {
		return err
	}
	return n.handle.LinkSetUp(link)
}

// plug connects a machine's tap to the bridge or pulls it out. The tap stays
// up: UML gives up on a device that was down once, until its next boot.
func (n network) plug(tap string, in bool) error {
	link, err := n.handle.LinkByName(tap)
	if err != nil {
		return fmt.Errorf("find device %s: %w", tap, err)
	}
	if !in {
		if err := n.handle.LinkSetNoMaster(link); err != nil {
			return fmt.Errorf("take %s off bridge %s: %w", tap, bridge, err)
		}
		return nil
	}
	br, err := n.handle.LinkByName(bridge)
	if err == nil {
		err = n.handle.LinkSetMaster(link, br)
	}
	if err != nil {
		return fmt.Errorf("put %s on bridge %s: %w", tap, bridge, err)
	}
	return nil
}

func isNoLink(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}

// processesIn lists the processes whose network namespace is ns.
func processesIn(ns netns.NsHandle) ([]Process, error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(ns), &want); err != nil {
		return nil, fmt.Errorf("read the network namespace: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var has unix.Stat_t
		// One that has ended meanwhile, or is a zombie, has no namespace.
		if unix.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &has) != nil || has.Ino != want.Ino || has.Dev != want.Dev {
			continue
		}
		if p, err := identify(pid); err == nil {
			found = append(found, p)
		}
	}
	return found, nil
}

// removeNamespace takes the name away. The kernel removes the namespace and
// its devices when the last process in it has ended.
func removeNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

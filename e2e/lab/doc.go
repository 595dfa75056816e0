// SPDX-License-Identifier: Apache-2.0

// Package lab makes real Linux machines on this computer: each with a kernel
// of its own, systemd as PID 1, sshd and an address, so that an installer can
// be run against them. It needs root, but neither KVM nor Docker nor internet
// access: only Debian's package archive, and that only once.
//
// The machines of one lab share a bridge in a network namespace that nothing
// leaves. A forwarder listens on 127.0.0.1 for each machine's SSH port and for
// the API server, so programs outside reach them without entering it.
//
// What a lab leaves on this computer, and where:
//
//	$XDG_CACHE_HOME/muster/lab        kernel and root image, shared by all labs, two of each kept
//	$XDG_STATE_HOME/muster/lab/NAME   disks, console logs, keys, inventory.yaml; removed by Down
//	/run/netns/muster-NAME            the namespace with bridge and taps; removed by Down
//
// Up may be repeated: it starts what is missing. Down needs nothing but the
// name, so a lab whose making was cut short can be removed too.
package lab

// SPDX-License-Identifier: Apache-2.0

// Command muster-etcd is one member of a cluster's etcd: etcd's own server in
// this process, configured by one file.
//
//	muster-etcd serve   --config /etc/muster/etcd.yaml   run the member (systemd)
//	muster-etcd health  --config ... [-o json]           ask the local member
//	muster-etcd members --config ... [-o json]           who is in the cluster
//
// Exit codes: 0 done, or healthy; 1 an error; 2 wrong usage; 3 the member was
// asked, or could not be reached, and is not healthy.
package main

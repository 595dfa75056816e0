// SPDX-License-Identifier: Apache-2.0

package facts

// Listening adds the ports of a /proc/net/tcp table.
var Listening = listening

// Advertised gives the interfaces with a default route from advertisements.
var Advertised = advertised

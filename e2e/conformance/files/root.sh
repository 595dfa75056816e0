#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Turns packages that were only unpacked, below $1, into the root of the test
# images, with the programs of $2.
set -e
# What would link these to their programs are scripts of the packages. The
# shell is not busybox, which would prefer its own nc to any other.
ln -sf nc.openbsd "$1/usr/bin/nc"
ln -sf dash "$1/usr/bin/sh"
# It leaves names that other packages have taken, and says so.
chroot "$1" /usr/bin/busybox --install -s /usr/bin 2>/dev/null || true
cp "$2/agnhost" "$2/localhost.crt" "$2/localhost.key" "$2/regression-issue-74839" "$1/"
mkdir -p "$1/uploads" "$1/etc" "$1/tmp"
chmod 1777 "$1/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$1/etc/passwd"
printf 'root:x:0:\nnobody:x:65534:\n' >"$1/etc/group"

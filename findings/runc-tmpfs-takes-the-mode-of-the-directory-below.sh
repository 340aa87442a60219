#!/bin/bash
# runc 1.1.5 (Debian 12).
# Expected: a tmpfs mount of config.json with the option mode=1777 has mode 1777, as mount(8) makes it.
# Found: it has the mode of the directory that it is mounted on, whatever the option says.
# Needs Debian 12 (amd64) with apt, and root.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q runc=1.1.5+ds1-1+deb12u1 busybox-static >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
mkdir -p bundle/rootfs/{bin,proc,dev,t}
cp root/bin/busybox bundle/rootfs/bin/
cat >bundle/config.json <<'J'
{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
 "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": [], "args": ["/bin/busybox", "stat", "-c", "%a", "/t"]},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}],
 "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}]}}
J
root/usr/sbin/runc --version | head -n 1
for below in 755 700; do
    chmod $below bundle/rootfs/t
    mode=$(root/usr/sbin/runc --root "$D/state" run --bundle bundle finding-$below-$$)
    echo "directory $below, option mode=1777: the tmpfs is $mode"
    [ "$mode" = $below ] || { echo "this has changed"; exit 1; }
done

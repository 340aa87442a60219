#!/bin/bash
# OVN 23.03.1, Open vSwitch 3.1.0 with datapath netdev (Debian 12), on Linux 6.18.
# Expected: OVN's DNS answers for a name that its switch has (dns_records) whatever is asked: who asks for AAAA where there is only
#           an address of IPv4 gets an answer without records at once (RFC 2308, section 2.2), and no query leaves.
# Found: it answers what it has an address for, and hands the query on to where it was sent, as if the name were not known.  Where
#        that is no DNS server, and dns_records are all there is, each getaddrinfo(3), which asks for both, waits for its timeout;
#        where it is one, that server may deny a name that exists.  An AAAA record beside the other one cures it.
# Needs Debian 12 (amd64) with apt and python3, the libraries of ovn-host and openvswitch-switch, and root for namespaces of its
# own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q ovn-central=23.03.1-1~deb12u2 ovn-host=23.03.1-1~deb12u2 ovn-common=23.03.1-1~deb12u2 \
    openvswitch-switch=3.1.0-2+deb12u1 openvswitch-common=3.1.0-2+deb12u1 iproute2=6.1.0-3 ethtool=1:6.1-1 libmnl0 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$D/root/usr/lib/x86_64-linux-gnu
cat >ask.py <<'P'
import select, socket, struct, subprocess

TYPES = {"A": 1, "AAAA": 28}
RECEIVER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("10.9.0.2", 53))
    print("ready", flush=True)
    while sock.recv(4096):
        print("a query", flush=True)
"""

def asked(name, kind):
    """How a query from the one namespace to the other's address is answered, and whether it got there."""
    label = name.encode()
    head = struct.pack(">6H", TYPES[kind], 1 << 8, 1, 0, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(head + bytes([len(label)]) + label + bytes(1) + struct.pack(">2H", TYPES[kind], 1), ("10.9.0.2", 53))
        try:
            answer = f"{struct.unpack_from('>H', sock.recv(4096), 6)[0]} record"
        except TimeoutError:
            answer = "no answer"
    while select.select([receiver.stdout], [], [], 0)[0] and receiver.stdout.readline():
        answer += ", the query arrives"
    return f"{name} {kind}: {answer}"

receiver = subprocess.Popen(["ip", "netns", "exec", "nk-2", "python3", "-c", RECEIVER], stdout=subprocess.PIPE, bufsize=0)
receiver.stdout.readline()
for name in ("web", "other"):
    for kind in TYPES:
        print(asked(name, kind), flush=True)
receiver.kill()
receiver.wait()
P
cat >steps <<'S'
set -eu
PATH=$PWD/root/bin:$PWD/root/sbin:$PWD/root/usr/bin:$PWD/root/usr/sbin:$PWD/root/usr/lib/openvswitch-switch:$PATH
export OVS_RUNDIR=$PWD OVS_LOGDIR=$PWD OVN_RUNDIR=$PWD OVN_LOGDIR=$PWD
mount -t tmpfs tmpfs /run
database() { # NAME SCHEMA: a server of it at NAME.sock
    ovsdb-tool create "$1.db" "root/usr/share/$2.ovsschema"
    ovsdb-server "$1.db" --remote="punix:$1.sock" --unixctl="$1.ctl" --log-file="$1.log" -vconsole:off 2>>err &
    until [ -S "$1.sock" ]; do sleep 0.1; done
}
vsctl() { ovs-vsctl --db=unix:local.sock --timeout=30 "$@"; }
nbctl() { ovn-nbctl --db=unix:nb.sock --timeout=30 "$@"; }
database local openvswitch/vswitch
database nb ovn/ovn-nb
database sb ovn/ovn-sb
vsctl --no-wait init -- set open_vswitch . external_ids:system-id=host external_ids:ovn-remote="unix:$PWD/sb.sock" \
    external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=127.0.0.1 external_ids:ovn-bridge-datapath-type=netdev
ovs-vswitchd unix:local.sock --unixctl=switch.ctl --log-file=switch.log -vconsole:off 2>>err &
ovn-northd --ovnnb-db=unix:nb.sock --ovnsb-db=unix:sb.sock --unixctl=northd.ctl --log-file=northd.log -vconsole:off 2>>err &
ovn-controller "unix:$PWD/local.sock" --log-file=controller.log -vconsole:off 2>>err &
vsctl wait-until bridge br-int
nbctl ls-add sw
for n in 1 2; do
    nbctl lsp-add sw "port$n" -- lsp-set-addresses "port$n" "02:00:00:00:00:0$n 10.9.0.$n"
    ip netns add "nk-$n"
    ip link add "port$n" type veth peer name eth0 netns "nk-$n"
    ip link set "port$n" up
    ip -n "nk-$n" link set eth0 address "02:00:00:00:00:0$n" up
    ip -n "nk-$n" addr add "10.9.0.$n/24" dev eth0
    vsctl add-port br-int "port$n" -- set interface "port$n" external_ids:iface-id="port$n"
    nbctl wait-until logical_switch_port "port$n" up=true
done
for n in 1 2; do ip netns exec "nk-$n" ethtool -K eth0 tx off >/dev/null; done
records=$(nbctl create dns records:web=10.9.0.2)
nbctl --wait=hv set logical_switch sw dns_records="$records"
echo 'web has 10.9.0.2'
ip netns exec nk-1 python3 ask.py
nbctl --wait=hv set dns "$records" 'records:web="10.9.0.2 fd00::2"'
echo 'web has 10.9.0.2 and fd00::2'
ip netns exec nk-1 python3 ask.py
S
unshare --net --mount --pid --fork --kill-child --mount-proc bash steps | tee seen
cat >found <<'S'
web has 10.9.0.2
web A: 1 record
web AAAA: no answer, the query arrives
other A: no answer, the query arrives
other AAAA: no answer, the query arrives
web has 10.9.0.2 and fd00::2
web A: 1 record
web AAAA: 1 record
other A: no answer, the query arrives
other AAAA: no answer, the query arrives
S
diff found seen || { echo "this has changed"; exit 1; }

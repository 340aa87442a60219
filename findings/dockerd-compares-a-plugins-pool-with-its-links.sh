#!/bin/bash
# docker.io 20.10.24 (Debian 12): its dockerd, with a network plugin (libnetwork's remote driver and remote IPAM).
# Expected: without --subnet the network has the pool that the IPAM plugin answers with, for it is the plugin that knows what is
#           free: one RequestPool for one network.
# Found: dockerd compares the pool with the routes of the host's own links, and where they overlap it requests another one, with the
#        same words, before it releases the first.  So one create may have several pools at a time, and a LAN's pool is had only by
#        --subnet, which is not compared.  Nor are routes by a gateway: what is there is covered by the network without a word.
# Needs Debian 12 (amd64) with apt and python3, the libraries of docker.io, and root for namespaces of its own.
# Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q docker.io=20.10.24+dfsg1-1+deb12u1+b6 containerd=1.6.20~ds1-1+deb12u3 iproute2=6.1.0-3 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
cat >plugin.py <<'P'
import http.server, json, socketserver

ANSWERS = {
    "/Plugin.Activate": {"Implements": ["NetworkDriver", "IpamDriver"]},
    "/NetworkDriver.GetCapabilities": {"Scope": "local"},
    "/IpamDriver.GetDefaultAddressSpaces": {"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "everywhere"},
}

pools = (f"10.9.{n}.0/24" for n in range(1, 20))

class Plugin(http.server.BaseHTTPRequestHandler):
    """A driver of networks and addresses.  Requests and releases of pools are added to `calls`."""
    protocol_version = "HTTP/1.1"
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        answer = ANSWERS.get(self.path, {})
        if self.path == "/IpamDriver.RequestPool":
            pool = body["Pool"] or next(pools)
            answer = {"PoolID": pool, "Pool": pool}
            record(f"request {body['Pool'] or 'any'}: {pool}")
        elif self.path == "/IpamDriver.ReleasePool":
            record(f"release {body['PoolID']}")
        elif self.path == "/IpamDriver.RequestAddress":
            answer = {"Address": body["PoolID"].replace(".0/", ".1/")}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

def record(text):
    with open("calls", "a") as file:
        print(text, file=file)

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Server("/run/docker/plugins/some.sock", Plugin).serve_forever()
P
cat >steps <<'S'
set -eu
PATH=$PWD/root/bin:$PWD/root/usr/bin:$PWD/root/usr/sbin:$PATH
export HOME=$PWD DOCKER_HOST=unix:///run/docker.sock
mount -t tmpfs tmpfs /run
mkdir -p /run/docker/plugins
ip link set lo up
ip link add lan type bridge
ip addr add 10.9.1.7/24 dev lan
ip link set lan up
ip route add 10.9.2.0/24 via 10.9.1.9
python3 plugin.py &
dockerd --data-root "$PWD/data" --exec-root /run/exec --pidfile /run/dockerd.pid --bridge none --iptables=false --ip-forward=false \
    --storage-driver vfs >dockerd.log 2>&1 &
for _ in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
echo "dockerd $(docker version --format '{{.Server.Version}}' | cut -d+ -f1)"
made() {
    : >calls
    docker network create -d some --ipam-driver some "$@" >/dev/null
    cat calls
}
ip route | awk '{print "route:", $1, $2}'
echo 'without --subnet'
made one
echo '--subnet 10.9.1.0/24'
made --subnet 10.9.1.0/24 two
S
unshare --net --mount --pid --fork --kill-child --mount-proc bash steps | tee seen
cat >found <<'S'
dockerd 20.10.24
route: 10.9.1.0/24 dev
route: 10.9.2.0/24 via
without --subnet
request any: 10.9.1.0/24
request any: 10.9.2.0/24
release 10.9.1.0/24
--subnet 10.9.1.0/24
request 10.9.1.0/24: 10.9.1.0/24
S
diff found seen || { echo "this has changed"; exit 1; }

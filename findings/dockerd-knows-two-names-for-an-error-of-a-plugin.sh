#!/bin/bash
# docker.io 20.10.24 (Debian 12): its dockerd, with a network plugin (libnetwork's remote driver and remote IPAM).
# Expected: a plugin that is both refuses as IPAM in the way in which it does as a network driver: {"Err": "..."}, which dockerd
#           shows, with status 200 or 500.
# Found: with status 200 the field of IPAM is called Error.  Err there counts as a success that lacks everything, and what is shown
#        is that an empty text is no subnet; Error of a network driver counts as a success, and a network is made.  With status
#        500 it is Err for both, and Error is shown as the JSON that it came in.  So a plugin is understood in both roles where it
#        refuses with status 500 and Err.
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
    "/IpamDriver.RequestPool": {"PoolID": "pool", "Pool": "10.9.0.0/24"},
    "/IpamDriver.RequestAddress": {"Address": "10.9.0.1/24"},
}

class Plugin(http.server.BaseHTTPRequestHandler):
    """A driver of networks and addresses.  `refused` has a method, a status and a field; every call is added to `calls`."""
    protocol_version = "HTTP/1.1"
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open("calls", "a") as file:
            print(self.path[1:], file=file)
        with open("refused") as file:
            method, status, field = file.read().split()
        refused = self.path == "/" + method
        content = json.dumps({field: "the reason"} if refused else ANSWERS.get(self.path, {})).encode()
        self.send_response(int(status) if refused else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

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
refuse() { echo "$@" >refused; }
refuse nothing 200 Err
python3 plugin.py &
dockerd --data-root "$PWD/data" --exec-root /run/exec --pidfile /run/dockerd.pid --bridge none --iptables=false --ip-forward=false \
    --storage-driver vfs >dockerd.log 2>&1 &
for _ in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
echo "dockerd $(docker version --format '{{.Server.Version}}' | cut -d+ -f1)"
for method in NetworkDriver.CreateNetwork IpamDriver.RequestPool; do
    for status in 200 500; do
        for field in Err Error; do
            refuse $method $status $field
            answer=$(docker network create -d some --ipam-driver some net 2>&1 | sed 's/^.* daemon: //; s/ $//') || true
            docker network rm net >/dev/null 2>&1 && answer='is made'
            echo "$method, status $status, $field: $answer"
        done
    done
done
S
unshare --net --mount --pid --fork --kill-child --mount-proc bash steps | tee seen
cat >found <<'S'
dockerd 20.10.24
NetworkDriver.CreateNetwork, status 200, Err: remote: the reason
NetworkDriver.CreateNetwork, status 200, Error: is made
NetworkDriver.CreateNetwork, status 500, Err: NetworkDriver.CreateNetwork: the reason
NetworkDriver.CreateNetwork, status 500, Error: NetworkDriver.CreateNetwork: {"Error": "the reason"}
IpamDriver.RequestPool, status 200, Err: invalid CIDR address:
IpamDriver.RequestPool, status 200, Error: remote: the reason
IpamDriver.RequestPool, status 500, Err: IpamDriver.RequestPool: the reason
IpamDriver.RequestPool, status 500, Error: IpamDriver.RequestPool: {"Error": "the reason"}
S
diff found seen || { echo "this has changed"; exit 1; }

#!/bin/bash
# docker.io 20.10.24 (Debian 12): its dockerd, with a network plugin (libnetwork's remote driver and remote IPAM).
# Expected: `docker network rm` of a network whose driver answers DeleteNetwork with an error fails, and shows it; the network
#           stays, with its subnet.
# Found: it succeeds, and the network is gone; the driver's answer is in dockerd's log only.  Its addresses and its pool had been
#        given back before the driver was asked.  So a plugin cannot keep a network, and where it cannot remove one at the moment
#        it has to see to that by itself.  An error of CreateNetwork is shown, and what came before is undone.
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
    """A driver of networks and addresses.  `refused` has a method and a status; every call is added to `calls`."""
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
            method, status = file.read().split()
        refused = self.path == "/" + method
        content = json.dumps({"Err": "the reason"} if refused else ANSWERS.get(self.path, {})).encode()
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
refuse nothing 200
python3 plugin.py &
dockerd --data-root "$PWD/data" --exec-root /run/exec --pidfile /run/dockerd.pid --bridge none --iptables=false --ip-forward=false \
    --storage-driver vfs >dockerd.log 2>&1 &
for _ in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
echo "dockerd $(docker version --format '{{.Server.Version}}' | cut -d+ -f1)"
docker network create -d some --ipam-driver some --subnet 10.9.0.0/24 net >/dev/null
: >calls
refuse NetworkDriver.DeleteNetwork 500
status=0
docker network rm net || status=$?
echo "rm: exit status $status"
cat calls
echo "networks of the driver: $(docker network ls -q --filter driver=some | wc -l)"
echo "dockerd's log: $(grep -o 'level=.*the reason' dockerd.log | sed 's/ msg=.*: / /')"
: >calls
refuse NetworkDriver.CreateNetwork 500
status=0
docker network create -d some --ipam-driver some --subnet 10.9.0.0/24 net 2>&1 || status=$?
echo "create: exit status $status"
cat calls
S
unshare --net --mount --pid --fork --kill-child --mount-proc bash steps | tee seen
cat >found <<'S'
dockerd 20.10.24
net
rm: exit status 0
IpamDriver.ReleaseAddress
IpamDriver.ReleasePool
NetworkDriver.DeleteNetwork
networks of the driver: 0
dockerd's log: level=warning the reason
Error response from daemon: NetworkDriver.CreateNetwork: the reason
create: exit status 1
IpamDriver.RequestPool
IpamDriver.RequestAddress
NetworkDriver.CreateNetwork
IpamDriver.ReleaseAddress
IpamDriver.ReleasePool
S
diff found seen || { echo "this has changed"; exit 1; }

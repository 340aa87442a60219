"""An engine that answers from a table and remembers what it was asked: for golden tests.

Times are given relative to now, so that "2 hours ago" stays so.
"""

from __future__ import annotations

import base64
import io
import json
import socketserver
import struct
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.netkit.cli import cli_fake_weave

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
IMAGE = "sha256:" + "a1b2c3d4e5f60718" * 4
NETWORK = "11112222333344445555666677778888" * 2
HOUR, DAY = 3600, 86400
FIXED = "2024-05-30T12:07:14.123456789Z"
VERSION = {
    "Platform": {"Name": "fake"}, "Version": "28.0.0", "ApiVersion": "1.51",
    "Components": [
        {"Name": "Engine", "Version": "28.0.0",
         "Details": {"ApiVersion": "1.51", "MinAPIVersion": "1.24", "BuildTime": FIXED}},
    ],
}  # fmt: skip

_WATCHED_NETWORK = {"Name": "back", "Driver": "ovs", "Subnets": [{"Subnet": "10.1.0.0/24"}]}
_WATCHED_WEB = {"Network": NETWORK, "Container": "web", "ContainerID": ID, "Engine": "netkit",
                "Addresses": ["10.1.0.2/24"],
                "Ports": [{"HostIP": "", "HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp"},
                          {"HostIP": "", "HostPort": 0, "ContainerPort": 81, "Protocol": "tcp"}]}
_WATCHED_POD = _WATCHED_WEB | {"Container": "pod1", "Engine": "cni", "Ports": [],
                               "Addresses": ["10.1.0.3/24"]}
WATCHED: list[dict[str, Any]] = [
    {"Type": "state", "Networks": {NETWORK: _WATCHED_NETWORK | {"Peers": [{"IP": "10.0.0.2"}]}},
     "Endpoints": {ID: _WATCHED_WEB}, "Repaired": {"links": 1}},
    {"Type": "traffic", "Seconds": 2.0, "Endpoints": {
        ID: {"ReceiveBytes": 800, "TransmitBytes": 400, "ReceiveDropped": 1, "TransmitDropped": 0},
        OTHER: {"ReceiveBytes": 1, "TransmitBytes": 1, "ReceiveDropped": 0, "TransmitDropped": 0},
    }},
    {"Type": "change", "Endpoints": {ID: None, OTHER: _WATCHED_POD}, "Repaired": {"links": 3},
     "Networks": {NETWORK: _WATCHED_NETWORK | {"Peers": []}}},
    {"Type": "change", "Networks": {NETWORK: None}, "Endpoints": {OTHER: None}},
    {"Type": "problem", "Message": "the kernel does not answer"},
]  # fmt: skip


@dataclass
class Asked:
    """A request; its path is without the version."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any = None

    def row(self) -> list[Any]:
        return [self.method, self.path, self.query, self.body]


@dataclass
class Record:
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self) -> list[list[Any]]:
        return [each.row() for each in self.asked if each.path != "/_ping"]


def containers(now: float) -> list[dict[str, Any]]:
    def one(ident: str, name: str, **more: Any) -> dict[str, Any]:
        base = {
            "Id": ident, "Names": [f"/{name}"], "Image": "busybox", "ImageID": IMAGE,
            "Command": "sh -c 'sleep 1000; echo \"a long command line\"'",
            "Created": int(now) - 2 * HOUR - 60, "Ports": [], "Labels": {}, "State": "running",
            "Status": "Up 2 hours", "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {}}}, "Mounts": [],
        }  # fmt: skip
        return base | more

    ports = [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 443, "Type": "tcp"},
        *({"IP": "127.0.0.1", "PrivatePort": n, "PublicPort": n, "Type": "udp"}
          for n in (7000, 7001, 7002, 7005)),
        *({"PrivatePort": n, "Type": "tcp"} for n in (9000, 9001)),
    ]  # fmt: skip
    return [
        one(ID, "web", Ports=ports, Labels={"tier": "front", "a": "1"}, SizeRw=1234,
            SizeRootFs=5_000_000),
        one(OTHER, "db", Names=["/web/link", "/db"], State="exited",
            Status="Exited (0) 5 weeks ago", Created=int(now) - 40 * DAY, Image=IMAGE,
            Command="true", SizeRw=0,
            Mounts=[{"Type": "bind", "Source": "/srv/a-long-host-folder", "Destination": "/d"}]),
        one("ab" * 32, "späte", State="paused", Status="Up 3 minutes (Paused)",
            Created=int(now) - 70, Image="registry.example:5000/team/app:1.2@sha256:" + "0" * 64,
            ImageID="sha256:" + "9" * 64, SizeRw=12_345_678),
    ]  # fmt: skip


def images(now: float) -> list[dict[str, Any]]:
    digest = "sha256:" + "d" * 64
    return [
        {"Id": IMAGE, "RepoTags": ["busybox:latest", "busybox:1"],
         "RepoDigests": [f"busybox@{digest}"], "Created": int(now) - 3 * HOUR, "Size": 1_984_321,
         "SharedSize": -1, "Containers": 1, "Labels": None},
        {"Id": "sha256:" + "e" * 64, "RepoTags": [], "RepoDigests": [],
         "Created": int(now) - 400 * DAY, "Size": 123_456_789_012, "SharedSize": -1,
         "Containers": -1, "Labels": None},
    ]  # fmt: skip


def network(name: str = "bridge", driver: str = "bridge") -> dict[str, Any]:
    return {
        "Name": name, "Id": (name.encode().hex() + NETWORK)[:64], "Created": FIXED,
        "Scope": "local", "Driver": driver, "EnableIPv4": True, "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.17.0.0/16"}]},
        "Internal": name == "net10", "Attachable": False, "Ingress": False,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": {}, "Options": {},
        "Labels": {"a": "1"} if name == "net2" else {},
    }  # fmt: skip


def container(name: str, *, running: bool = True, tty: bool = False) -> dict[str, Any]:
    return {
        "Id": ID, "Name": f"/{name}", "Created": FIXED, "Path": "sh", "Args": [], "Image": IMAGE,
        "State": {"Status": "running", "Running": running, "Paused": False, "Restarting": False,
                  "Dead": False, "Pid": 1, "ExitCode": 0, "Error": ""},
        "Config": {"Tty": tty, "OpenStdin": True, "Image": "busybox", "Env": ["A=1", "B=two"],
                   "Labels": {"x.y": "z"}, "Cmd": ["sh"], "Hostname": "h"},
        "HostConfig": {"AutoRemove": False, "NetworkMode": "bridge", "Memory": 5242880},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"},
                                 {"HostIp": "::", "HostPort": "8080"}],
                      "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "10053"}], "9/tcp": None},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2", "Aliases": None}},
        },
        "Mounts": [],
    }  # fmt: skip


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(text)) + text


HISTORY = [
    {"Id": IMAGE, "Created": 0, "CreatedBy": "/bin/sh -c #(nop)  CMD [\"sh\"] and a longer tail",
     "Size": 0, "Comment": "", "Tags": ["busybox:latest"]},
    {"Id": "<missing>", "Created": 0, "CreatedBy": "", "Size": 1_984_321,
     "Comment": "Imported from -", "Tags": None},
]  # fmt: skip
EVENTS = [
    {"status": "start", "id": ID, "from": "busybox", "Type": "container", "Action": "start",
     "Actor": {"ID": ID, "Attributes": {"image": "busybox", "name": "web"}}, "scope": "local",
     "time": 1717070834, "timeNano": 1717070834123456789},
    {"Type": "network", "Action": "create", "Actor": {"ID": NETWORK, "Attributes": {}},
     "scope": "local", "time": 1717070835, "timeNano": 1717070835000000001},
]  # fmt: skip
PATH_STAT = base64.b64encode(
    json.dumps({"name": "tmp", "size": 0, "mode": 1 << 31 | 0o755, "mtime": FIXED,
                "linkTarget": ""}).encode()
).decode()  # fmt: skip
DF_BASE = {"LayersSize": 1_984_321, "Volumes": [], "BuildCache": []}
STATS = {
    "name": "/web", "id": ID, "read": FIXED, "preread": FIXED, "pids_stats": {"current": 3},
    "blkio_stats": {"io_service_bytes_recursive": [
        {"major": 8, "minor": 0, "op": "Read", "value": 12345},
        {"major": 8, "minor": 0, "op": "Write", "value": 6789012}]},
    "num_procs": 0,
    "cpu_stats": {"cpu_usage": {"total_usage": 3_000_000_000}, "system_cpu_usage": 90_000_000_000,
                  "online_cpus": 2},
    "precpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000},
                     "system_cpu_usage": 88_000_000_000, "online_cpus": 2},
    "memory_stats": {"usage": 50_000_000, "limit": 25_276_653_568,
                     "stats": {"inactive_file": 1_000_000}},
    "networks": {"eth0": {"rx_bytes": 1160, "tx_bytes": 42}},
}  # fmt: skip
BUILT = b"".join(
    json.dumps(each).encode() + b"\r\n"
    for each in (
        {"stream": "Step 1/1 : FROM busybox"}, {"stream": "\n"},
        {"stream": " ---> a1b2c3d4e5f6\n"}, {"aux": {"ID": IMAGE}},
        {"stream": "Successfully built a1b2c3d4e5f6\n"},
    )
)


def volume(name: str) -> dict[str, Any]:
    return {
        "CreatedAt": "2026-01-02T03:04:05Z", "Driver": "local",
        "Labels": {"tier": "back"} if name == "data2" else None,
        "Mountpoint": f"/var/lib/netkit/volumes/{name}/_data", "Name": name, "Options": None,
        "Scope": "local",
    }  # fmt: skip


PRUNED: dict[str, Any] = {
    "/containers/prune": {"ContainersDeleted": [ID], "SpaceReclaimed": 123456},
    "/images/prune": {"ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": IMAGE}],
                      "SpaceReclaimed": 2_000_000},
    "/networks/prune": {"NetworksDeleted": ["net1", "net2"]},
    "/volumes/prune": {"VolumesDeleted": ["data", "logs"], "SpaceReclaimed": 3_000_000},
    "/build/prune": {"CachesDeleted": None, "SpaceReclaimed": 0},
}  # fmt: skip


HOSTS = [
    {"Id": f"e{n}" * 6, "Name": f"h{n}", "Address": f"10.0.0.{n}", "Endpoints": n - 1,
     "Self": n == 1}
    for n in (1, 2, 3)
]  # fmt: skip
_REMOTES = [f"ssl:10.0.0.{n}:6640" for n in (1, 2)]
CLUSTERS: dict[str, dict[str, Any]] = {
    "nowhere": {
        "Remotes": [], "TLS": False, "Servers": [], "Leader": "", "Role": "", "Answers": False,
        "Problems": [], "Networks": [], "Hosts": [],
    },
    "server": {
        "Remotes": _REMOTES, "TLS": True, "Servers": ["10.0.0.1", "10.0.0.2"],
        "Leader": "10.0.0.2", "Role": "follower", "Answers": True,
        "Problems": ["wide: it overlaps with a network of this host, mine"],
        "Networks": ["side", "wide"], "Hosts": HOSTS,
    },
}  # fmt: skip
CLUSTERS["client"] = CLUSTERS["server"] | {"Servers": [], "Leader": "", "Role": "", "Problems": []}
CLUSTERS["without most servers"] = CLUSTERS["server"] | {
    "Leader": "", "Role": "candidate", "Answers": False, "TLS": False,
    "Problems": ["the cluster: it does not answer"],
}  # fmt: skip
# What the engine refuses, by situation (any: ""), verb and what is asked for: status and message.
REFUSALS = {
    ("server", "init", ""): (409, "this host is in a cluster already, of ssl:10.0.0.1:6640"),
    ("server", "join", "10.0.0.1"): (409, "this host is in a cluster already"),
    ("server", "leave", "nosuch"): (404, "no host nosuch in the cluster"),
    ("server", "leave", ""): (403, "containers are on networks of scope global: web"),
    ("client", "leave", ""): (409, "netkitd was started with --cluster: start it without"),
    ("nowhere", "join", "10.0.0.99"): (500, "the server at 10.0.0.99:6640 does not answer"),
    ("nowhere", "leave", ""): (409, "this host is in no cluster"),
    ("nowhere", "leave", "force"): (409, "this host is in no cluster"),
    ("without most servers", "leave", ""): (500, "most servers of the cluster do not answer"),
}

OVNS: dict[str, dict[str, Any]] = {
    "nowhere": {
        "Address": "", "TLS": False, "Northbound": "", "Southbound": "", "Quorum": False,
        "Northd": "", "Servers": [], "Problems": [],
    },
    "server": {
        "Address": "10.0.0.1", "TLS": True, "Quorum": True, "Northd": "standby", "Problems": [],
        "Northbound": "ssl:10.0.0.1:6641,ssl:10.0.0.2:6641",
        "Southbound": "ssl:10.0.0.1:6642,ssl:10.0.0.2:6642",
        "Servers": [
            {
                "Database": database, "Address": f"10.0.0.{n}", "Self": n == 1,
                "Role": "leader" if n == 2 else "follower", "Index": 40 + n, "Lag": 2 - n,
                "Clients": 3 if n == 1 else None, "Problem": "",
            }
            for database in ("OVN_Northbound", "OVN_Southbound") for n in (1, 2)
        ],
    },
}  # fmt: skip
_ALONE = {"Self": True, "Role": "candidate", "Lag": 0}
_SILENT = {"Role": "", "Index": 0, "Lag": 0, "Problem": "does not answer (Connection refused)"}
OVNS["without most servers"] = OVNS["server"] | {
    "Quorum": False, "Northd": "", "Problems": ["ovn-northd of this host: it does not answer"],
    "Servers": [
        server | (_ALONE if server["Self"] else _SILENT) for server in OVNS["server"]["Servers"]
    ],
}  # fmt: skip
OVN_REFUSALS = {
    ("nowhere", "up", "10.0.0.99"): (500, "the server at 10.0.0.99:6641 does not answer"),
    ("nowhere", "down", ""): (409, "no servers of OVN on this host: netkit ovn up"),
    ("without most servers", "down", ""): (500, "most servers of OVN_Northbound do not answer"),
}


def ovn(situation: str, method: str, path: str, body: Any) -> tuple[int, str, bytes]:
    """Answer requests about servers of OVN."""
    if method == "GET":
        return _json(OVNS[situation])
    verb = path.rpartition("/")[2]
    argument = body.get("Server") or body.get("Host") or ("force" if body.get("Force") else "")
    if refusal := OVN_REFUSALS.get((situation, verb, argument)):
        return _json({"message": refusal[1]}, refusal[0])
    if verb == "down":
        return 204, "application/json", b""
    return _json(OVNS["server"] | {"TLS": not body["Insecure"]}, 201)


STAYS = "not removed: wide, side: the cluster does not answer"


def cluster(situation: str, method: str, path: str, body: Any) -> tuple[int, str, bytes]:
    """Answer requests about clusters."""
    if method == "GET":
        return _json(CLUSTERS[situation])
    verb = path.rpartition("/")[2]
    argument = body.get("Server") or body.get("Host") or ("force" if body.get("Force") else "")
    if refusal := REFUSALS.get((situation, verb, argument)):
        return _json({"message": refusal[1]}, refusal[0])
    if verb == "leave":
        return 204, "application/json", b""
    servers = ["10.0.0.1"] if verb == "init" else ["10.0.0.1", "10.0.0.2"]
    tls = body["Address"] == ""  # as the cluster was configured
    return _json(CLUSTERS["server"] | {"Servers": servers, "TLS": tls}, 201)


def members(raw: bytes) -> list[list[Any]]:
    """The context of a build: name, kind, mode, owner, target or content of each member."""
    found: list[list[Any]] = []
    if not raw.startswith(b"\x1f\x8b"):
        raw += bytes(1536)  # docker's client does not pad what it adds at the end
    with tarfile.open(fileobj=io.BytesIO(raw)) as t:
        for m in t:
            file = t.extractfile(m) if m.isreg() else None
            said = file.read().decode() if file else m.linkname
            found.append([m.name, m.type.decode(), f"{m.mode:o}", m.uid, m.gid, said])
    return found


class Handler(socketserver.StreamRequestHandler):
    server: FakeDaemon

    def handle(self) -> None:
        try:
            while self._one():
                pass
        except (ConnectionError, ValueError):
            pass

    def _one(self) -> bool:
        head = self.rfile.readline().decode().split()
        if len(head) < 3:
            return False
        headers: dict[str, str] = {}
        while line := self.rfile.readline().decode().strip():
            key, _, given = line.partition(":")
            headers[key.strip().lower()] = given.strip()
        raw = self._body(headers)
        url = urlsplit(head[1])
        path = url.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        body: Any = None
        if raw:
            is_json = headers.get("content-type") == "application/json"
            body = json.loads(raw) if is_json else f"{len(raw)} bytes"
            if path == "/build":
                body = members(raw)
        query = parse_qs(url.query, keep_blank_values=True)
        with self.server.record.lock:
            self.server.record.asked.append(Asked(head[0], path, query, body))
        if headers.get("upgrade") == "tcp":
            self._hijack(path)
            return False
        situation = self.server.situation
        if path.startswith("/netkit/weave"):
            self._reply(head[0], *self._weave(head[0], path, query, body))
        elif path.startswith("/netkit/ovn"):
            self._reply(head[0], *ovn(situation, head[0], path, body))
        elif path.startswith("/netkit/cluster"):
            self._reply(head[0], *cluster(situation, head[0], path, body))
        elif path == "/networks/prune" and situation == "without most servers":
            self._reply(head[0], *_json(PRUNED[path] | {"Warnings": [STAYS]}))
        else:
            self._reply(head[0], *answer(head[0], path, query, time.time()))
        return True

    def _weave(
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[int, str, bytes]:
        answered = cli_fake_weave.answer(self.server.overlay, method, path, query, body)
        return (204, "application/json", b"") if answered is None else _json(*answered)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(headers.get("content-length", 0)))

    def _hijack(self, path: str) -> None:
        self.wfile.write(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        self.wfile.write(frame(1, b"out of the container\n") + frame(2, b"and its errors\n"))

    def _reply(self, method: str, status: int, kind: str, data: bytes) -> None:
        head = [
            f"HTTP/1.1 {status} X", "Api-Version: 1.51", "Ostype: linux",
            "Server: Docker/28.2.2 (linux)", f"Content-Type: {kind}",
            f"Content-Length: {len(data)}",
        ]  # fmt: skip
        if method == "HEAD":
            head.append(f"X-Docker-Container-Path-Stat: {PATH_STAT}")
        self.wfile.write(("\r\n".join(head) + "\r\n\r\n").encode())
        if method != "HEAD":
            self.wfile.write(data)


def answer(
    method: str, path: str, query: dict[str, list[str]], now: float
) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    if "nosuch" in path or "nosuch" in str(query.get("fromImage", "")):
        kind = path.strip("/").split("/")[0].removesuffix("s")
        words = {"network": "network nosuch not found", "volume": "get nosuch: no such volume",
                 "image": "No such image: nosuch:latest"}
        return _json({"message": words.get(kind, f"No such {kind}: nosuch")}, 404)
    if path == "/_ping":
        return 200, "text/plain", b"OK"
    found = _get(path, query, now) if method == "GET" else _change(method, path)
    if isinstance(found, bytes):
        return 200, "application/vnd.docker.multiplexed-stream", found
    return _json(found)


def _json(value: Any, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()


def _get(path: str, query: dict[str, list[str]], now: float) -> Any:
    fixed: dict[str, Any] = {
        "/containers/json": containers(now), "/images/json": images(now),
        "/version": VERSION,
        "/networks": [network("net10"), network(), network("net2"), network("host", "host")],
        "/system/df": DF_BASE | {"Images": [i | {"SharedSize": 0} for i in images(now)],
                                 "Containers": containers(now)},
        "/volumes": {"Volumes": [volume("data10"), volume("data2"), volume("logs")],
                     "Warnings": None},
    }  # fmt: skip
    if path in fixed:
        return fixed[path]
    if path == "/netkit/watch":
        return "\n".join(json.dumps({"TimeNano": 0, **each}) for each in WATCHED).encode()
    if path == "/events":
        return "\n".join(map(json.dumps, EVENTS)).encode()
    name, _, verb = path.strip("/").partition("/")[2].rpartition("/")
    if path.startswith("/containers/"):
        return {
            "json": container(name, running="stopped" not in name),
            "changes": [{"Path": "/etc", "Kind": 0}, {"Path": "/etc/new", "Kind": 1},
                        {"Path": "/old", "Kind": 2}],
            "top": {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", "1", "sleep 1000"]]},
            "logs": frame(1, b"line 1\n") + frame(2, b"oops\n") + frame(1, b"line 2\n"),
            "stats": STATS,
            "export": b"tar of the container",
        }[verb]  # fmt: skip
    if path.startswith("/exec/"):
        return {"ExitCode": 3, "Running": False}
    if path.startswith("/images/"):
        if verb == "history":
            return [step | {"Created": int(now) - 9 * DAY} for step in HISTORY]
        if path == "/images/get":
            return b"tar of the images"
        return {"Id": IMAGE, "RepoTags": ["busybox:latest"], "Size": 1_984_321}
    if path.startswith("/networks/"):
        return network(path.rpartition("/")[2])
    if path.startswith("/volumes/"):
        return volume(path.rpartition("/")[2])
    raise ValueError(f"the fake engine has no GET {path}")


def _change(method: str, path: str) -> Any:
    if path in PRUNED:
        return PRUNED[path]
    if path == "/build":
        return BUILT
    if path == "/containers/create":
        return {"Id": ID, "Warnings": ["a warning of the engine"]}
    if path.endswith("/wait"):
        return {"StatusCode": 7}
    if path.endswith("/exec"):
        return {"Id": OTHER}
    if path == "/commit":
        return {"Id": IMAGE}
    if path == "/volumes/create":
        return volume("data")
    if path == "/networks/create":
        return {"Id": NETWORK, "Warning": ""}
    if path.endswith("/update"):
        return {"Warnings": None}
    if path == "/auth":
        return {"Status": "Login Succeeded", "IdentityToken": ""}
    if path.endswith("/push"):
        return {"status": "The push refers to repository [docker.io/library/busybox]"}
    if path in ("/images/load", "/images/create"):
        return {"status": IMAGE} if path.endswith("create") else {"stream": "Loaded image: a:1\n"}
    if method == "DELETE" and path.startswith("/images/"):
        return [{"Untagged": "busybox:latest"}, {"Deleted": IMAGE}]
    return None


class FakeDaemon(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        self.record = Record()
        self.situation = "nowhere"  # one of CLUSTERS
        self.overlay = "launched"  # a key of cli_cases.WEAVE
        super().__init__(str(path), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnected is not logged."""


@contextmanager
def running(path: Path) -> Iterator[FakeDaemon]:
    server = FakeDaemon(path)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def anywhere() -> Iterator[FakeDaemon]:
    """Start one with its socket in a folder of its own: pytest's are too long for sun_path."""
    with (
        tempfile.TemporaryDirectory(prefix="nk-", dir="/tmp") as folder,
        running(Path(folder) / "s") as server,
    ):
        yield server

"""A host with netkit's CNI front end, on a kernel made of a dict, which may be killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netkit.frontends.cni.attachments import AttachmentStore
from netkit.frontends.cni.namespaces import OWN_NS
from netkit.frontends.cni.service import CniService
from netkit.model import Netns
from netkit.reconcile.plan import Op
from netkit.spec import NetworkRecord, NetworkSpec
from tests.unit.netkit.network.fault_bench import FaultBench

Json = dict[str, Any]
SUBNET = "10.60.0.0/24"
IDS = [f"{n:x}" * 64 for n in range(1, 10)]
HOST_NS = "4:1"


class Failed(Exception):
    def __init__(self, error: Json) -> None:
        super().__init__(f"{error['code']}: {error['msg']} {error.get('details', '')}")
        self.code, self.error = error["code"], error


class CniBench(FaultBench):
    def __init__(self, path: Path) -> None:
        self.settled = 0
        self.runs: dict[str, int] = {}  # of namespaces that are at a path, one after the other
        super().__init__(path)
        self.net.start()
        self.cni = self.service()

    def service(self) -> CniService:
        return CniService(
            self.net,
            AttachmentStore(self.database),
            nsid=self.nsid,
            create=self.create,
            remove=self.net.remove,
            settle_names=self.settle,
        )

    def create(self, spec: NetworkSpec) -> NetworkRecord:
        return self.net.create(spec).record

    def settle(self) -> None:
        self.points.hit("names settle")
        self.settled += 1

    def nsid(self, path: str) -> str:
        if path == OWN_NS:
            return HOST_NS
        there = ("netns", path) in self.kernel.things
        return f"5:{path}:{self.runs.get(path, 0)}" if there else ""

    def restart(self) -> None:
        """Kill the daemon; the next one restores and recovers."""
        self.again()
        self.cni = self.service()
        self.net.restore(self.cni.live())
        self.cni.recover()

    def netns(self, name: str) -> str:
        path = f"/run/netns/{name}"
        if ("netns", path) not in self.kernel.things:
            self.kernel.apply([Op(None, Netns(path=path))])
        return path

    def end(self, name: str) -> None:
        """Remove a namespace."""
        path = f"/run/netns/{name}"
        self.kernel.apply([Op(Netns(path=path), None)])
        self.runs[path] = self.runs.get(path, 0) + 1

    def raw(self, env: Mapping[str, str], text: str, nsid: str = "") -> tuple[int, Any]:
        code, output = self.cni.call(env, text, nsid)
        return code, json.loads(output) if output else None

    def call(
        self, command: str, conf: Json, which: int = 1, ifname: str = "eth0", **env: str
    ) -> Any:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": IDS[which - 1],
            "CNI_NETNS": f"/run/netns/c{which}",
            "CNI_IFNAME": ifname,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAME=c{which}",
            **env,
        }
        code, shown = self.raw(variables, json.dumps(conf))
        if code:
            raise Failed(shown)
        return shown

    def add(self, conf: Json, which: int = 1, ifname: str = "eth0", **env: str) -> Any:
        self.netns(f"c{which}")
        return self.call("ADD", conf, which, ifname, **env)

    def check(self, conf: Json, result: Json, which: int = 1, ifname: str = "eth0") -> None:
        assert self.call("CHECK", {**conf, "prevResult": result}, which, ifname) is None

    def attachments(self) -> list[tuple[str, str, str]]:
        found = AttachmentStore(self.database).all()
        return [(a.container[:1], a.name, a.ifname) for a in found]


def conf(name: str = "back", version: str = "1.1.0", **more: Any) -> Json:
    subnet = {} if "subnet" in more or "network" in more else {"subnet": SUBNET}
    return {"cniVersion": version, "name": name, "type": "netkit", **subnet, **more}


def ports(*pairs: tuple[int, int], **more: Any) -> Json:
    found = [{"hostPort": host, "containerPort": to, "protocol": "tcp"} for host, to in pairs]
    runtime = {"portMappings": found, **more}
    return {"capabilities": {"portMappings": True}, "runtimeConfig": runtime}

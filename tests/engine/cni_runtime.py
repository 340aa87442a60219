"""A small runtime of CNI: it calls plugins as libcni does, and has network namespaces for pods."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netkit.frontends.cni import program
from netkit.kernel import netns
from tests.engine.daemon import Engine, fresh
from tests.engine.wire import inside

Json = dict[str, Any]
NETNS = Path("/run/netns")


class Failed(Exception):
    """A plugin that has failed: what it printed."""

    def __init__(self, error: Json) -> None:
        super().__init__(f"{error.get('code')}: {error.get('msg')} {error.get('details', '')}")
        self.error = error
        self.code: int = error["code"]


@dataclass
class Pod:
    """A container for CNI: an id, and a network namespace."""

    id: str
    netns: str
    name: str = ""

    @property
    def args(self) -> str:
        return f"IgnoreUnknown=1;K8S_POD_NAME={self.name}" if self.name else ""

    def sh(self, script: str) -> str:
        """Run it in the pod's namespace; its standard output, stripped."""
        done = subprocess.run(
            ["nsenter", f"--net={self.netns}", "sh", "-c", script],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def ip(self, *words: str) -> Any:
        return json.loads(self.sh(f"ip -j {' '.join(words)}") or "[]")


@contextmanager
def pod(name: str = "") -> Iterator[Pod]:
    id = os.urandom(32).hex()
    path = str(NETNS / fresh("nk-pod"))
    netns.create(path)
    try:
        yield Pod(id, path, name)
    finally:
        netns.remove(path)


def install(folder: Path) -> str:
    """Install netkit's plugin there; return its path."""
    done = subprocess.run(
        [sys.executable, program.__file__, "--install", str(folder)],
        capture_output=True, text=True, check=True, env={},
    )  # fmt: skip
    return done.stdout.strip()


@dataclass
class Runtime:
    """Calls netkit's plugin, installed into `folder`, for the daemon of `engine`."""

    engine: Engine
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    at: str = ""  # name of the network namespace that it calls from, as netkitd's

    def __post_init__(self) -> None:
        self.plugin = install(self.folder)

    def env(self, command: str, pod: Pod | None, ifname: str, **more: str) -> dict[str, str]:
        env = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": str(self.folder)}
        env["NETKIT_HOST"] = self.engine.host
        if pod is not None:
            env |= {"CNI_CONTAINERID": pod.id, "CNI_NETNS": pod.netns, "CNI_IFNAME": ifname,
                    "CNI_ARGS": pod.args}  # fmt: skip
        return {**env, **self.environment, **more}

    def call(
        self, command: str, conf: Json | str, pod: Pod | None = None, ifname: str = "eth0",
        **env: str,
    ) -> Any:  # fmt: skip
        """What the plugin prints, as JSON; None for nothing.  Failed with its error."""
        text = conf if isinstance(conf, str) else json.dumps(conf)
        done = subprocess.run(
            inside(self.at or self.engine.netns, self.plugin), input=text, capture_output=True,
            text=True, check=False, env=self.env(command, pod, ifname, **env), timeout=200,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        shown = json.loads(done.stdout) if done.stdout else None
        if done.returncode:
            raise Failed(dict(shown or {}))
        return shown

    def add(self, conf: Json, pod: Pod, ifname: str = "eth0", **env: str) -> Any:
        return self.call("ADD", conf, pod, ifname, **env)

    def delete(self, conf: Json, pod: Pod, ifname: str = "eth0", **env: str) -> None:
        assert self.call("DEL", conf, pod, ifname, **env) is None

    def check(self, conf: Json, pod: Pod, result: Json, ifname: str = "eth0") -> None:
        assert self.call("CHECK", {**conf, "prevResult": result}, pod, ifname) is None


def conf(name: str, version: str = "1.1.0", **more: Any) -> Json:
    return {"cniVersion": version, "name": name, "type": "netkit", **more}


def runtime_config(**capabilities: Any) -> Mapping[str, Any]:
    return {
        "capabilities": dict.fromkeys(capabilities, True),
        "runtimeConfig": capabilities,
    }


def addresses(result: Json) -> Sequence[str]:
    return [ip["address"] for ip in result["ips"]]

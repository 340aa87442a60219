"""`cnitool` of the CNI project, unmodified, with netkit's plugin."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engine.cni_runtime import Pod, Runtime, pod, runtime_config
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import inside
from tests.places import ROOT

PROGRAM = Path(os.environ.get("NETKIT_TEST_CNITOOL") or ROOT / ".cnitool") / "cnitool"
ABSENT = os.environ.get("NETKIT_TEST_CNITOOL_ABSENT") or (
    "" if PROGRAM.exists() else f"needs {PROGRAM}: script/cnitool builds it"
)
pytestmark = [
    netkit_only("it has no CNI plugin"),
    pytest.mark.skipif(bool(ABSENT), reason=ABSENT or "it is there"),
]


class Tool:
    """cnitool with a configuration folder of its own.  It keeps results in /var/lib/cni."""

    def __init__(self, plugin: Runtime, folder: Path) -> None:
        self._plugin, self._folder = plugin, folder

    def network(self, name: str, **keys: Any) -> None:
        plugin = {
            "type": "netkit", "subnet": "10.88.7.0/24",
            "socket": self._plugin.engine.host.removeprefix("unix://"), **keys,
        }  # fmt: skip
        conf = {"cniVersion": "1.0.0", "name": name, "plugins": [plugin]}
        (self._folder / f"{name}.conflist").write_text(json.dumps(conf))

    def __call__(
        self, command: str, network: str, where: Pod, *, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "CNI_PATH": str(self._plugin.folder),
               "NETCONFPATH": str(self._folder), **environment}  # fmt: skip
        done = subprocess.run(
            inside(self._plugin.engine.netns, str(PROGRAM), command, network, where.netns),
            capture_output=True, text=True, check=False, env=env, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done


@pytest.fixture
def tool(tmp_path: Path, engine: Engine) -> Tool:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "conf").mkdir()
    return Tool(Runtime(engine, tmp_path / "plugins"), tmp_path / "conf")


def test_add_check_and_del(tool: Tool, engine: Engine) -> None:
    mapping = {"hostPort": 8089, "containerPort": 80, "protocol": "tcp"}
    capabilities = runtime_config(portMappings=[mapping])
    tool.network("back", capabilities=capabilities["capabilities"])
    with pod() as one, pod() as other:
        ports = json.dumps(capabilities["runtimeConfig"])
        result = json.loads(tool("add", "back", one, CAP_ARGS=ports).stdout)
        assert result["ips"][0]["address"] == "10.88.7.2/24"
        tool("check", "back", one, CAP_ARGS=ports)
        taken = tool("add", "back", other, check=False, CAP_ARGS=ports)
        assert (taken.returncode, "8089" in taken.stderr) == (1, True)
        tool("add", "back", other)
        other.sh("busybox ping -c 1 -W 5 10.88.7.2")
        refused = tool("add", "back", one, check=False)
        assert refused.returncode == 1
        assert "is on network back by eth0 already" in refused.stderr
        one.sh("ip route del default")
        drift = tool("check", "back", one, check=False, CAP_ARGS=ports)
        assert "+ route" in drift.stderr
        for each in (one, other):
            tool("del", "back", each)
            assert [link["ifname"] for link in each.ip("link")] == ["lo"]
        tool("del", "back", one)  # what is not there is no error
    shown = json.loads(engine.out("network", "inspect", "back"))[0]
    assert shown["Containers"] == {}
    engine.out("network", "rm", "back")

"""Every field that clients read of a fixed container, its image and network, beside dockerd 28's.

`recorded/dockerd-28.5.json` is what dockerd answered to the same requests.  To record it again:
NETKIT_UPDATE_GOLDEN=1 NETKIT_TEST_ENGINE=dockerd NETKIT_TEST_DOCKERD=<unpacked packages>.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.daemon import KIND, Engine, netkit_only
from tests.engine.test_docker_py import raw

RECORD = Path(__file__).parent / "recorded" / "dockerd-28.5.json"
API = "/v1.51"

# Another at every run; whether there is a value is compared.
VARIES = re.compile(
    r"(Id|Created|Pid|StartedAt|FinishedAt|LastTagTime|Size|Image|ImageID|SandboxID|SandboxKey"
    r"|EndpointID|NetworkID|MacAddress|IPAddress|Gateway|ResolvConfPath|HostnamePath|HostsPath"
    r"|LogPath|Hostname|DockerVersion|Status|IPv4Address|Config|RootFS.Layers)$"
)

_LAYERS = "an image's layers are mounted with a container's only"
_EARLY = "a network that is asked for has its id and names before the first start, too"
_PUBLISHED = "a published port is exposed and published, also where ExposedPorts lacks it"
DIFFERENCES = {
    "running.LogPath": "the log is conmon's, and read through the API",
    "image.GraphDriver.Data": _LAYERS,
    "created.NetworkSettings.Networks.nkparity.DNSNames": _EARLY,
    "created.NetworkSettings.Networks.nkparity.NetworkID": _EARLY,
    "rich.NetworkSettings.Networks.bridge.NetworkID": _EARLY,
    "created.Config.ExposedPorts.80/tcp": _PUBLISHED,
    "running.Config.ExposedPorts.80/tcp": _PUBLISHED,
    "running.NetworkSettings.Ports": _PUBLISHED,
    "running.NetworkSettings.Ports.80/tcp": _PUBLISHED,
    "ps.Ports": _PUBLISHED,
}


def answers(engine: Engine) -> dict[str, Any]:
    """Return the documents of a container with few options and of one with many."""
    raw(engine, "POST", f"{API}/networks/create", json={"Name": "nkparity"})
    body = {
        "Image": "busybox", "Cmd": ["sleep", "100000"], "Env": ["A=b"], "StopTimeout": 1,
        "HostConfig": {"NetworkMode": "nkparity",
                       "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]}},
        "NetworkingConfig": {"EndpointsConfig": {"nkparity": {"Aliases": ["web"]}}},
    }  # fmt: skip
    created = raw(engine, "POST", f"{API}/containers/create?name=parity", json=body)
    assert created.status_code == 201, created.text
    rich = {
        "Image": "busybox", "User": "app", "Labels": {"l": "m"}, "WorkingDir": "/w",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9}, "StopSignal": "SIGINT",
        "HostConfig": {
            "Binds": ["/usr:/host:ro"], "Tmpfs": {"/t": "size=1m"}, "Privileged": True,
            "Mounts": [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1 << 20}}],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "Memory": 1 << 27,
            "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}], "CapAdd": ["NET_ADMIN"],
            "PidsLimit": 50, "ReadonlyRootfs": True, "Init": False, "IpcMode": "shareable",
        },
    }  # fmt: skip
    made = raw(engine, "POST", f"{API}/containers/create?name=rich", json=rich)
    assert made.status_code == 201, made.text
    docs: dict[str, Any] = {}
    ids = {created.json()["Id"]: "CID", made.json()["Id"]: "RID"}
    for stage in ("created", "running"):
        if stage == "running":
            assert raw(engine, "POST", f"{API}/containers/parity/start").status_code == 204
        docs[stage] = raw(engine, "GET", f"{API}/containers/parity/json").json()
    docs["rich"] = raw(engine, "GET", f"{API}/containers/rich/json").json()
    docs["image"] = raw(engine, "GET", f"{API}/images/busybox/json").json()
    docs["network"] = raw(engine, "GET", f"{API}/networks/nkparity").json()
    listed = raw(engine, "GET", f"{API}/containers/json?all=1").json()
    docs["ps"] = next(c for c in listed if c["Names"] == ["/parity"])
    docs["images"] = raw(engine, "GET", f"{API}/images/json").json()[0]
    text = json.dumps(docs)
    places = docs["running"]["GraphDriver"]["Data"]
    assert os.path.ismount(places["MergedDir"])
    layers = [*places["LowerDir"].split(":"), docs["image"]["GraphDriver"]["Data"]["UpperDir"]]
    assert all(Path(folder).is_dir() for folder in (*layers, places["UpperDir"]))
    for id, word in ids.items():
        text = text.replace(id, word).replace(id[:12], word)
    return dict(json.loads(text))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every field; lists are values."""
    if isinstance(value, dict) and value and not path.endswith("GraphDriver.Data"):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif VARIES.search(path) and not isinstance(value, dict):
        yield path, "varies" if value else value
    elif path.endswith("GraphDriver.Data"):
        yield path, sorted(value or {})
    elif path.endswith("Mounts"):  # in dockerd's random order
        yield path, sorted(value or (), key=lambda m: str(m.get("Destination", m.get("Target"))))
    else:
        yield path, sorted(value) if path.endswith("Paths") and value else value


@pytest.mark.slow
def test_every_field_is_as_dockerd_has_it_or_differs_for_a_reason(engine: Engine) -> None:
    have = dict(leaves(answers(engine)))
    if KIND == "dockerd":
        if os.environ.get("NETKIT_UPDATE_GOLDEN"):
            RECORD.parent.mkdir(exist_ok=True)
            RECORD.write_text(json.dumps(have, indent=1, sort_keys=True) + "\n")
        return
    theirs = json.loads(RECORD.read_text())
    absent = "(no such field)"
    differ = {
        path: (have.get(path, absent), theirs.get(path, absent))
        for path in sorted({*have, *theirs})
        if have.get(path, absent) != theirs.get(path, absent)
    }
    unexplained = {path: both for path, both in differ.items() if path not in DIFFERENCES}
    for path, both in unexplained.items():
        print(path, *both, sep="  |  ")
    assert not unexplained, "netkit's and dockerd's"
    assert not set(DIFFERENCES) - set(differ), "these differ no longer"


@netkit_only("its init may not report its version")
def test_info_says_the_versions_of_its_programs(engine: Engine) -> None:
    info = raw(engine, "GET", f"{API}/info").json()
    runc = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True).stdout
    assert info["RuncCommit"]["ID"]
    assert info["RuncCommit"]["ID"] in runc
    assert info["InitBinary"]
    assert info["InitCommit"]["ID"]
    names = {c["Name"] for c in raw(engine, "GET", f"{API}/version").json()["Components"]}
    assert names >= {"Engine", "runc"}

"""Hosts with dockerd or podman: their programs, flags and configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netkit.errors import NotFound
from netkit.lab import engines
from netkit.lab.model import DOCKER, NETKIT, PODMAN, LabHost, LabNetwork, Places

SOCKET = "/run/nkl/1/netkit.sock"


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: Any) -> Path:
    """A folder of unpacked packages, and no other program."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(engines, "_search", lambda kind: f"{tmp_path}/usr/bin")
    monkeypatch.setenv(engines.VARIABLES[DOCKER], str(tmp_path))
    (tmp_path / "usr/bin").mkdir(parents=True)
    return tmp_path


def add(unpacked: Path, *names: str) -> None:
    for name in names:
        path = unpacked / "usr/bin" / name
        path.write_text("")
        path.chmod(0o755)


def test_a_missing_program_is_named_with_what_to_do(unpacked: Path) -> None:
    hosts = [LabHost(name="h1"), LabHost(name="h2", engine=DOCKER)]
    add(unpacked, "dockerd")
    with pytest.raises(NotFound) as error:
        engines.require(hosts)
    assert str(error.value) == (
        f"h2 has engine docker: no containerd, runc in {unpacked} (NETKIT_LAB_DOCKER) or PATH: "
        "install the Debian package docker.io, or set NETKIT_LAB_DOCKER to a folder where it is "
        "unpacked"
    )  # fmt: skip
    add(unpacked, "containerd", "runc")
    engines.require(hosts)


def test_unpacked_programs_come_first(monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv(engines.VARIABLES[PODMAN], "/opt/p")
    assert engines._search(PODMAN).startswith("/opt/p/usr/bin:/opt/p/usr/sbin:/bin:")
    assert engines._search(NETKIT).startswith("/bin:")


def test_netkitd_runs_no_containers_beside_another_engine() -> None:
    places = Places(lab="x")
    assert engines.flags(LabHost(name="h1"), places) == ()
    assert engines.flags(LabHost(name="h1", engine=PODMAN), places) == ("--containers=false",)
    url = f"unix://{places.engine('h1')}"
    assert engines.flags(LabHost(name="h1", engine=DOCKER), places) == (
        "--containers=false", "--docker-plugin", f"--docker-api={url}",
    )  # fmt: skip


def plugin(network: LabNetwork) -> Any:
    found: Any = engines.configuration(network, SOCKET)
    assert found["name"] == network.name
    (only,) = found["plugins"]
    assert (only["type"], only["socket"]) == ("netkit", SOCKET)
    return {k: v for k, v in only.items() if k not in {"type", "socket", "capabilities"}}


def test_a_network_of_podmans_is_a_configuration_of_cni() -> None:
    given = LabNetwork(
        name="app", driver="ovs", subnet="10.9.0.0/16", ip_range="10.9.1.0/24", scope="global",
        internal=True, options={"peers": "10.0.0.2"},
    )  # fmt: skip
    assert plugin(given) == {
        "driver": "ovs", "subnet": "10.9.0.0/16", "ipRange": "10.9.1.0/24", "scope": "global",
        "internal": True, "options": {"peers": "10.0.0.2"},
    }  # fmt: skip


def test_a_network_of_netkits_is_joined_by_its_name() -> None:
    given = LabNetwork(name="back", options={"netkit.network": "app"})
    assert plugin(given) == {"network": "app"}


@pytest.mark.parametrize(("hard", "most"), [(1024, 1024), (-1, 1 << 20)])
def test_limits_are_not_raised(monkeypatch: Any, hard: int, most: int) -> None:
    monkeypatch.setattr(engines.resource, "getrlimit", lambda kind: (512, hard))
    assert f"nofile={most}:{most}" in engines._limits()

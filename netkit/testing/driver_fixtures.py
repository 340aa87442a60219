"""The driver, its network and the hosts that the contract of drivers is tested with."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit.driver import Driver, Network
from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.model import Key, Resource, State, state
from netkit.testing.driver_world import Subject, World, container, endpoint, setup
from netkit.testing.kernel import NETNS, FakeKernel
from netkit.testing.plugin import load, parse_options


def given(config: pytest.Config) -> tuple[Subject, ...]:
    """The driver of the command line, if there is one."""
    text = config.getoption("--driver")
    if text is None:
        return ()
    options = parse_options(config.getoption("--driver-option"))
    return (Subject(name=text, make=load(text), options=options),)


@pytest.fixture
def driver(subject: Subject) -> Driver:
    return subject.driver()


@pytest.fixture
def net(subject: Subject, driver: Driver) -> Network:
    return subject.network(driver=driver)


@pytest.fixture
def open_vswitch() -> Callable[[str], Ovsdb | None]:
    """Start the Open vSwitch of a home namespace, for drivers that need one."""
    return lambda home: None


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.root)])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, open_vswitch: Callable[[str], Ovsdb | None]
) -> Iterator[World]:
    if request.param == "fake":
        made = World(FakeKernel(), NETNS, "/run/outside")
        made.prepare()
        yield made
        return
    if os.geteuid() != 0:
        pytest.skip("a real host needs root")
    name = f"nk-{secrets.token_hex(3)}"
    home, outside, folder = f"/run/netns/{name}", f"/run/netns/{name}-o", Path(f"/run/{name}")
    netns.create(home)
    try:
        kernel = Host(
            home, namespaces=str(folder), variant="nft", handovers=str(tmp_path),
            ovs=open_vswitch(home),
        )  # fmt: skip
        made = World(kernel, str(folder), outside, home)
        made.prepare()
        yield made
        kernel.close()
    finally:
        for path in (*netns.inside_folder(str(folder)), outside, home):
            netns.remove(path)
        if folder.exists():
            folder.rmdir()


@pytest.fixture
def before(driver: Driver, world: World) -> State:
    """What the driver's networks share exists, as it does in a daemon that has had one."""
    shared = setup(driver)
    world.converge(shared)
    return shared


@pytest.fixture
def whole(driver: Driver, net: Network, world: World) -> State:
    """One network with two containers."""
    out: dict[Key, Resource] = {**setup(driver), **state(driver.network(net))}
    for n in (1, 2):
        out |= container(net, driver, endpoint(net, world.folder, n))
    return out

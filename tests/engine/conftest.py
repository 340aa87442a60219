"""Fixtures that drive an engine with real containers.  They need root; without it tests skip."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import requests

from tests import oracle
from tests.engine import image, weave_hosts
from tests.engine.daemon import DOCKER, KIND, Engine, alone
from tests.engine.weave_hosts import Hosts
from tests.engine.wire import WORLD, Echo, Names, Wire

# dockerd collects namespace files once a minute and keeps folders of its containerd for ever.
NOT_LOOKED_AT = {"dockerd": ("namespaces", "files", "descriptors"), "netkitd": ()}[KIND]

LIVE = {
    "engine", "own_engine", "session_engine", "module_engine", "corpus_results", "two_engines"
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if LIVE & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.engine)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


def missing() -> str:
    """Return in one line what this machine lacks for running containers; "" if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not image.BUSYBOX.exists():
        return f"needs {image.BUSYBOX} (Debian package busybox-static)"
    programs = [DOCKER, "ip", "nsenter", "iptables", "curl", "runc"]
    programs += ["conmon"] if KIND == "netkitd" else []
    absent = [name for name in programs if not shutil.which(name)]
    return f"needs {', '.join(absent)} in PATH" if absent else ""


@pytest.fixture(scope="session")
def session_engine() -> Iterator[Engine]:
    wire = Wire.lay()
    try:
        engine = Engine(wire)
        try:
            engine.start()
            engine.load_image()
            for network in ("bridge", "host"):  # what is made once, on first use, is no leak
                engine.run("--network", network, "busybox", "true")
            yield engine
        finally:
            engine.destroy()
    finally:
        wire.remove()


@pytest.fixture(scope="module")
def module_engine(session_engine: Engine) -> Iterator[Engine]:
    """The shared engine; what a module leaves behind is that module's failure."""
    emptied(session_engine)
    before = oracle.snapshot(session_engine)
    yield session_engine
    session_engine.clear()
    session_engine.forget_client()
    try:
        oracle.assert_clean(before, lambda: oracle.snapshot(session_engine), ignore=NOT_LOOKED_AT)
    except AssertionError as error:
        error.add_note(f"{session_engine.kind}'s log:\n{session_engine.log_tail()}")
        error.add_note(f"the resolver's log:\n{session_engine.resolver_log()}")
        raise


def emptied(engine: Engine) -> None:
    """Empty it before a module.  pytest keeps a fixture's error for all tests of the module: so an
    engine that the last one killed is started, and a call that took too long is made once more."""
    if not engine.running():
        engine.restart()
    try:
        engine.clear()
    except (docker.errors.DockerException, requests.RequestException) as error:
        warnings.warn(f"the engine was not emptied at once: {error}", stacklevel=1)
        engine.forget_client()
        try:
            engine.clear()
        except Exception as again:
            again.add_note(f"{engine.kind}'s log:\n{engine.log_tail()}")
            raise
    engine.forget_client()


@pytest.fixture
def engine(module_engine: Engine) -> Iterator[Engine]:
    """The shared engine, empty but for the image `busybox`, and emptied again afterwards."""
    yield module_engine
    if not module_engine.running():
        module_engine.restart()
        pytest.fail(f"the daemon died during the test:\n{module_engine.log_tail()}")
    module_engine.clear()


@pytest.fixture
def own_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of the test's own, to kill and to configure; its flags by indirect parameters."""
    with alone(*getattr(request, "param", ())) as engine:
        yield engine


@pytest.fixture(scope="session")
def two_engines() -> Iterator[Hosts]:
    with weave_hosts.two_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def weave_hosts_of_module(two_engines: Hosts) -> Iterator[Hosts]:
    """Two engines on one wire, empty but for the image `busybox`, without an overlay."""
    weave_hosts.emptied(two_engines)
    yield two_engines
    weave_hosts.emptied(two_engines)


@pytest.fixture(scope="session")
def world(session_engine: Engine) -> Iterator[Echo]:
    """A web server beyond the engine's host: answers with the address the client is seen as."""
    echo = Echo(session_engine.wire.neighbour, WORLD, 80)
    yield echo
    echo.close()


@pytest.fixture(scope="session")
def names(session_engine: Engine) -> Iterator[Names]:
    """A name server beyond the engine's host."""
    server = Names(session_engine.wire.neighbour, WORLD)
    yield server
    server.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    used = getattr(item, "funcargs", {})
    engines = [used[name] for name in ("engine", "own_engine") if name in used][:1]
    engines += [host.engine for host in used.get("two_engines", ())]
    for engine in engines if report.failed else ():
        report.sections.append((f"{engine.kind}'s log", engine.log_tail()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder the containers' users can read."""
    tmp_path.chmod(0o755)
    return tmp_path

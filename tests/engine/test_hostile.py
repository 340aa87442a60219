"""Hostile input: archives that ask for too much or lead outside, trees without a bottom,
clients that leave.  The daemon refuses in one line, stays small, and goes on."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import hostile
from tests.engine.daemon import Engine, fresh, netkit_only

pytestmark = netkit_only("dockerd takes some of these archives, and memory for them")

MOST_MEMORY = 150 << 20  # bytes; docs/limits.md
REFUSED = {400, 409}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def send(
    engine: Engine, method: str, path: str, body: bytes, kind: str = "application/x-tar"
) -> tuple[int, str]:
    """Return (status, answer).  A daemon that stops reading has answered."""
    connection = _Connection(engine.socket)
    try:
        with suppress(BrokenPipeError):
            connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def memory(engine: Engine, field: str = "VmHWM") -> int:
    for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(field)


@cache
def archives(outside: str) -> dict[str, bytes]:
    return {case: hostile.made(case, outside) for case in hostile.ARCHIVES}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


@pytest.fixture
def canary(outside: Path) -> Iterator[Path]:
    """A folder of the host that must stay unchanged."""
    folder = outside
    (folder / "secret").write_text("keep me")
    (folder / "secret").chmod(0o640)
    yield folder
    assert os.listdir(folder) == ["secret"]
    found = (folder / "secret").stat()
    assert ((folder / "secret").read_text(), found.st_nlink) == ("keep me", 1)
    assert found.st_mode & 0o7777 == 0o640


@pytest.fixture
def small(engine: Engine) -> Iterator[None]:
    """The daemon's memory stays below its bound, and nothing half-done is left."""
    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")  # the peak is counted from here
    yield
    assert memory(engine) < MOST_MEMORY
    images = engine.root / "images"
    assert not list((images / "layers/new").iterdir())
    assert not list((images / "incoming").iterdir())


WAYS: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "import": ("POST", "/images/create?fromSrc=-", bytes),
    "load": ("POST", "/images/load", lambda data: hostile.as_image([data])),
    "load as it is": ("POST", "/images/load", bytes),
    "cp": ("PUT", "/containers/{c}/archive?path=/", bytes),
    "build": ("POST", "/build?forcerm=1",
              lambda data: hostile.as_context(data, b"FROM scratch\nCOPY . /\n")),
}  # fmt: skip
# Its content is hashed for a build, in a minute; a client that leaves ends that.
TOO_LONG = {"build": {"a sparse file of 60 GiB"}}


@pytest.mark.parametrize("way", WAYS)
def test_hostile_archives(engine: Engine, canary: Path, small: None, way: str) -> None:
    method, path, wrap = WAYS[way]
    name = fresh("c")
    engine.docker("create", "--name", name, "busybox")
    odd = {}
    for case, data in archives(str(canary)).items():
        if case in TOO_LONG.get(way, ()):
            continue
        status, answer = send(engine, method, path.format(c=name), wrap(data))
        refused = REFUSED | ({500} if way == "build" else set())  # bad contexts, as dockerd
        if status != 200 and (status not in refused or not json.loads(answer).get("message")):
            odd[case] = (status, answer)
        if "internal error" in answer:
            odd[case] = (status, answer)
    assert not odd
    engine.docker("rm", name)
    until(lambda: not list(engine.root.glob("build/*")))
    assert engine.docker("system", "df").returncode == 0


LARGE: list[dict[str, object]] = [
    {"Labels": {f"{n:x}": "" for n in range(78_000)}},
    {"HostConfig": {"PortBindings": {f"{n}/tcp": None for n in range(1, 26_000)}}},
    {"Env": [f"{n:x}" for n in range(78_000)]},
    {"HostConfig": {"ExtraHosts": ["a:1.1.1.1"] * 65_000}},
    {"Volumes": {f"/{n:x}": {} for n in range(3_000)}},  # each becomes a mount, too
    {"Labels": {"a": "b" * 1_000_000}},
]


def test_the_largest_containers_leave_the_daemon_small(engine: Engine, small: None) -> None:
    """Create as many as are accepted, then list and inspect them."""
    ids, answers = [], []
    for n in range(18):
        body = json.dumps({"Image": "busybox", "Cmd": ["x"], **LARGE[n % len(LARGE)]}).encode()
        status, answer = send(engine, "POST", "/containers/create", body, "application/json")
        answers.append(status)
        if status == 201:
            ids.append(json.loads(answer)["Id"])
        else:
            assert "remove containers" in answer
    assert set(answers) == {201, 507}
    assert len(ids) >= 4
    assert len(json.loads(send(engine, "GET", "/containers/json?all=1", b"")[1])) >= len(ids)
    for id in ids:
        assert send(engine, "GET", f"/containers/{id}/json", b"")[0] == 200
        assert send(engine, "DELETE", f"/containers/{id}", b"")[0] == 204
    engine.run("busybox", "true")


def test_a_container_s_tree_without_a_bottom(engine: Engine) -> None:
    script = "mkdir /deep; cd /deep; for i in $(seq 2500); do mkdir d && cd d; done; true"
    name = engine.up("busybox", "sh", "-c", script)
    assert engine.out("wait", name) == "0"
    assert name in engine.out("ps", "-as", "--format", "{{.Names}} {{.Size}}")
    assert name in engine.out("system", "df", "-v")
    for command in (("diff", name), ("export", name), ("cp", f"{name}:/deep", "-")):
        done = engine.docker(*command, check=False)
        assert (done.returncode, "internal error" in done.stderr) == (1, False), command
    assert "nested too deeply" in engine.docker("diff", name, check=False).stderr
    engine.docker("rm", name)
    assert not (engine.root / "containers" / name).exists()
    assert [p.name for p in (engine.root / "snapshots").iterdir()] == ["empty"]


def test_a_deep_layer_makes_an_ordinary_image(engine: Engine) -> None:
    tag = fresh("deep")
    engine.docker("import", "-", tag, input=hostile.nested(1900))
    name = fresh("c")
    engine.docker("create", "--name", name, tag, "x")
    assert engine.out("diff", name) == ""
    assert f"{tag} " in engine.out("system", "df", "-v")
    engine.docker("rm", name)
    engine.docker("rmi", tag)


def test_holes_stay_holes(engine: Engine, small: None) -> None:
    tag, name = fresh("holes"), fresh("c")
    data = hostile.sparse(50 << 30, f"{(50 << 30) - 1},1", b"x")
    free = os.statvfs(engine.root).f_bavail * os.statvfs(engine.root).f_frsize
    ident = engine.out("import", "-", tag, input=data)
    engine.docker("create", "--name", name, "busybox")
    engine.docker("cp", "-", f"{name}:/", input=data)
    assert os.statvfs(engine.root).f_bavail * os.statvfs(engine.root).f_frsize > free - (1 << 30)
    assert json.loads(engine.out("image", "inspect", ident))[0]["Size"] == 50 << 30
    engine.docker("rm", name)
    engine.docker("rmi", tag)


def test_an_empty_archive_is_put(engine: Engine) -> None:
    name = engine.sleeper()
    for data in (b"", bytes(1024), hostile.tar([])):
        assert send(engine, "PUT", f"/containers/{name}/archive?path=/tmp", data) == (200, "")


def big(size: int) -> bytes:
    return hostile.tar([hostile.entry("f")], os.urandom(1 << 20) * (size >> 20))


@pytest.mark.parametrize("way", ["import", "load", "cp"])
def test_a_client_that_leaves_ends_what_is_done_for_it(engine: Engine, way: str) -> None:
    method, path, wrap = WAYS[way]
    name = fresh("c")
    engine.docker("create", "--name", name, "busybox")
    data = wrap(big(4 << 20))
    before = engine.out("images", "-aq", "--no-trunc")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(engine.socket))
    head = (
        f"{method} {path.format(c=name)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    sock.sendall(head.encode() + data[: 2 << 20])
    new = engine.root / "images/layers/new"
    until(lambda: way == "cp" or bool(list(new.iterdir())))
    sock.close()
    until(lambda: not list(new.iterdir()) and not list((engine.root / "images/incoming").iterdir()))
    assert engine.out("images", "-aq", "--no-trunc") == before
    engine.docker("rm", name)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


ODD: list[object] = [
    {"a": "b"}, [], "x", 5, None, {"rootfs": None}, {"rootfs": {"diff_ids": "x"}},
    {"rootfs": {"diff_ids": [5]}}, {"config": [], "rootfs": {}},
    {"created": "yesterday", "rootfs": {}}, {"created": 5, "rootfs": {}},
    {"history": {}, "rootfs": {}}, {"history": [5], "rootfs": {}},
    {"config": {"Labels": {"a": 5}}, "rootfs": {}}, {"config": {"Env": "x"}, "rootfs": {}},
    {"config": {"Healthcheck": {"Test": 5}}, "rootfs": {}}, {"os": [], "rootfs": {}},
]  # fmt: skip


BROKEN: list[object] = [
    [{"Config": 5}], {"Config": "c.json"}, [[]], [{"Config": "c.json", "RepoTags": [5]}],
    [{"Config": "c.json", "RepoTags": ["UPPER"]}], [{"Config": "../c"}],
]  # fmt: skip


def test_odd_documents_are_refused_at_the_door(engine: Engine) -> None:
    manifest = [{"Config": "c.json", "Layers": [], "RepoTags": ["odd:1"]}]
    for document in [*(json.dumps(d).encode() for d in ODD), b'{"rootfs": {}, "author": "\xff"}']:
        status, answer = send(engine, "POST", "/images/load", archive(document, manifest))
        assert (status, bool(json.loads(answer)["error"])) == (200, True), (document, answer)
    for broken in BROKEN:
        answer = send(engine, "POST", "/images/load", archive(b'{"rootfs": {}}', broken))[1]
        assert json.loads(answer)["error"], (broken, answer)


def archive(config: bytes, manifest: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (("c.json", config), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_an_image_of_another_time_zone_is_listed_and_sorted(engine: Engine) -> None:
    tag = fresh("zone")
    config = {"created": "2024-02-29T23:30:00.5+05:30", "rootfs": {"type": "layers"}}
    manifest = [{"Config": "c.json", "Layers": None, "RepoTags": [f"{tag}:1"]}]
    engine.docker("load", input=archive(json.dumps(config).encode(), manifest))
    assert f"{tag}:1" in engine.out("images", "--format", "{{.Repository}}:{{.Tag}}")
    filters = quote(json.dumps({"reference": [tag]}))
    listed = json.loads(send(engine, "GET", f"/images/json?filters={filters}", b"")[1])
    assert listed[0]["Created"] == 1709229600
    engine.docker("system", "df")


def test_a_damaged_image_keeps_nothing_from_the_lists(own_engine: Engine) -> None:
    engine = own_engine
    engine.load_image()
    ident = engine.out("import", "-", "broken", input=hostile.tar([hostile.entry("f")]))
    (engine.root / "images/blobs/sha256" / ident.removeprefix("sha256:")).write_text("rubbish")
    engine.stop()
    engine.restart()
    for command in (("images",), ("system", "df", "-v"), ("ps", "-a"), ("info",)):
        assert engine.docker(*command).returncode == 0
    assert "broken" in engine.out("images")
    assert engine.run("busybox", "echo", "ok") == "ok"
    assert engine.docker("create", "broken", "x", check=False).returncode == 1
    engine.docker("rmi", "broken")
    assert "broken" not in engine.out("images")
    assert f"image {ident} is shown with what can be read of it" in engine.log.read_text()

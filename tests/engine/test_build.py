"""Builds: what the corpus does not ask, of clients that leave, daemons that die, and options."""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.registry import Registry, lacking

Result = tuple[int, list[dict[str, Any]]]


class Connection(http.client.HTTPConnection):
    def __init__(self, host: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = host.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(self._path)


def context(files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return raw.getvalue()


@contextmanager
def building(engine: Engine, *lines: str, **query: Any) -> Iterator[http.client.HTTPResponse]:
    """A build whose reply is being read; leaving closes the connection."""
    connection = Connection(engine.host)
    body = context({"Dockerfile": "\n".join(lines)})
    try:
        connection.request("POST", f"/build?{urlencode(query, doseq=True)}", body)
        yield connection.getresponse()
    finally:
        connection.close()


def build(engine: Engine, *lines: str, **query: Any) -> Result:
    with building(engine, *lines, **query) as reply:
        return reply.status, [json.loads(line) for line in reply.read().splitlines()]


def text(result: Result) -> str:
    return "".join(str(message.get("stream", "")) for message in result[1])


def built(engine: Engine, *lines: str, **query: Any) -> str:
    """What a build that succeeds prints."""
    result = build(engine, *lines, **query)
    assert result[0] == 200, result
    assert "error" not in result[1][-1], result[1][-1]
    return text(result)


def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + seconds, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - begin


def containers(engine: Engine) -> Sequence[Any]:
    return list(engine.client.api.containers(all=True))


def left(engine: Engine) -> list[str]:
    """What there is of builds on the disk."""
    return [p.name for p in (engine.root / "builds").iterdir()]


def read_until(reply: http.client.HTTPResponse, word: str) -> None:
    """Read until a step prints the line ``word``.

    A step is announced before its container exists, and the announcement has the whole
    instruction in it: hence the line, not a text that has ``word`` somewhere.
    """
    seen = ""
    while word not in seen.splitlines():
        line = reply.readline()
        assert line, seen
        seen += str(json.loads(line).get("stream", ""))


@pytest.mark.parametrize("forcerm", ["0", "1"])
def test_a_step_ends_at_once_when_its_client_leaves(engine: Engine, forcerm: str) -> None:
    with building(
        engine, "FROM busybox", "RUN echo begun; sleep 1000", "RUN true", forcerm=forcerm
    ) as reply:
        read_until(reply, "begun")
        assert len(containers(engine)) == 1
    assert until(lambda: not containers(engine)) < 2
    until(lambda: not left(engine))
    assert [i["RepoTags"] for i in engine.client.api.images(all=True)] == [["busybox:latest"]]


@netkit_only("dockerd has no such route for the classic builder")
def test_a_build_is_cancelled_by_its_id(engine: Engine) -> None:
    with building(engine, "FROM busybox", "RUN echo begun; sleep 1000", buildid="b1") as reply:
        read_until(reply, "begun")
        connection = Connection(engine.host)
        connection.request("POST", "/build/cancel?id=b1")
        assert connection.getresponse().status == 200
        connection.close()
        until(lambda: not containers(engine))


@netkit_only("dockerd leaves its containers")
def test_nothing_is_left_of_a_build_whose_daemon_was_killed(own_engine: Engine) -> None:
    engine = own_engine
    with building(
        engine, "FROM busybox", "VOLUME /v", "RUN echo a >/a", "RUN echo begun; sleep 1000"
    ) as reply:
        read_until(reply, "begun")
        assert left(engine)
        engine.kill9()
    engine.start()
    assert containers(engine) == []
    assert left(engine) == []
    assert engine.out("volume", "ls", "-q") == ""
    # the steps before are images, and the cache has them
    assert text(build(engine, "FROM busybox", "VOLUME /v", "RUN echo a >/a")).count(
        "Using cache"
    ) == 2  # fmt: skip


@pytest.mark.root
@pytest.mark.engine
@netkit_only("dockerd is asked elsewhere")
def test_a_full_disk_fails_the_step_and_leaves_nothing_half() -> None:
    def small(engine: Engine) -> None:
        engine.root.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(engine.root)], check=True
        )

    with alone(prepare=small) as engine:
        try:
            step = "RUN head -c 25000000 /dev/zero >/x"  # once as files, once as a blob
            for lines in (["FROM busybox", step], ["FROM busybox", "RUN true", f"{step}; sync"]):
                status, messages = build(engine, *lines, forcerm="1")
                assert status == 200
                assert "no space left on device" in messages[-1]["error"].lower()
                assert containers(engine) == []
                until(lambda: not left(engine))
                assert list((engine.root / "images" / "incoming").iterdir()) == []
            assert "Successfully built" in built(engine, "FROM busybox", "RUN echo a >/a")
        finally:
            engine.stop()
            subprocess.run(["umount", "-l", str(engine.root)], check=True)


def test_several_builds_at_once(engine: Engine) -> None:
    def one(number: int) -> str:
        return built(
            engine, "FROM busybox", "RUN echo common >/c", f"RUN echo {number} >/n", t=f"b:{number}"
        )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert [engine.run(f"b:{n}", "cat", "/c", "/n").split() for n in range(6)] == [
        ["common", str(n)] for n in range(6)
    ]


@netkit_only("dockerd's classic builder takes one stage after the other")
def test_stages_run_side_by_side_and_are_shown_in_order(engine: Engine) -> None:
    begin = time.monotonic()
    said = built(
        engine,
        "FROM busybox AS one", "RUN sleep 2; echo first", "FROM busybox AS two",
        "RUN sleep 2.0; echo second >/x; echo second",
        "FROM busybox", "COPY --from=two /x /x", "COPY --from=one /etc/passwd /p", "RUN cat /x",
    )  # fmt: skip
    assert time.monotonic() - begin < 3.9
    words = [line for line in said.splitlines() if line in {"first", "second"}]
    assert words == ["first", "second", "second"]
    steps = [line.split(" ")[1] for line in said.splitlines() if line.startswith("Step ")]
    assert steps == [f"{n}/8" for n in range(1, 9)]


def test_a_stage_that_fails_ends_the_others(engine: Engine) -> None:
    status, messages = build(
        engine, "FROM busybox", "RUN sleep 0.5; exit 3", "FROM busybox", "RUN sleep 1000"
    )
    assert status == 200
    assert messages[-1]["errorDetail"]["code"] == 3
    assert "sleep 1000" not in text((status, messages))
    assert [c["Command"] for c in containers(engine)] == ["/bin/sh -c 'sleep 0.5; exit 3'"]


def test_options_reach_the_containers_of_run(engine: Engine) -> None:
    said = built(
        engine, "FROM busybox",
        "RUN cat /etc/hosts; ulimit -n; df -k /dev/shm | tail -n 1; ip -o link | wc -l",
        networkmode="none", extrahosts="named:192.0.2.7", shmsize=str(1 << 20),
        ulimits='[{"Name": "nofile", "Soft": 123, "Hard": 456}]', memory=str(64 << 20),
    )  # fmt: skip
    assert "192.0.2.7\tnamed" in said
    assert "\n123\n" in said
    assert "1024" in said
    assert "\n1\n" in said  # the loopback interface alone


@pytest.mark.skipif(bool(lacking()), reason=lacking())
def test_base_images_and_sources_are_pulled_with_the_credentials_of_the_request(
    engine: Engine,
) -> None:
    registry = Registry(engine.netns, 5077, password="me:secret")
    try:
        name = f"{registry.name}/team/base:1"
        engine.docker("tag", "busybox", name)
        engine.docker("login", "-u", "me", "-p", "secret", registry.name)
        engine.docker("push", name)
        engine.docker("rmi", name)
        lines = [f"FROM {name}", f"COPY --from={registry.name}/team/base:1 /etc/passwd /p"]
        refused = build(engine, *lines)
        assert "no basic auth credentials" in refused[1][-1]["error"]
        # the stock client sends what it is logged in with
        said = engine.out("build", "-", input="\n".join(lines))
        assert "Pulling from team/base" in said
        assert "Successfully built" in said
        again = engine.out("build", "--pull", "-", input="\n".join(lines))
        assert "Image is up to date" in again
        assert again.count("Using cache") == 1
    finally:
        registry.close()


def test_docker_py_builds(engine: Engine) -> None:
    image, log = engine.client.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nRUN echo said\nLABEL a=b\n"), tag="y:1", rm=True
    )
    assert image.tags == ["y:1"]
    assert image.labels == {"a": "b"}
    assert "said\n" in [line.get("stream") for line in log]


def test_a_refused_option_names_itself(engine: Engine) -> None:
    status, messages = build(engine, "FROM busybox", "RUN true", memory="1")
    assert status == 200
    assert "inimum memory limit" in messages[-1]["error"]
    assert containers(engine) == []


def test_output_is_shown_as_it_comes_and_a_slow_client_is_waited_for(engine: Engine) -> None:
    with building(
        engine, "FROM busybox", "RUN echo early; sleep 2; yes | head -c 4000000; echo late"
    ) as reply:
        read_until(reply, "early")
        assert [c["State"] for c in containers(engine)] == ["running"]
        time.sleep(3)
        assert "Successfully built" in reply.read().decode()


def test_commands_of_the_stock_client(engine: Engine, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY f /f\nRUN cat /f\n")
    (folder / "f").write_text("hello\n")
    assert "Successfully tagged x:latest" in engine.out("build", "-t", "x", str(folder))
    failed = engine.docker("build", "-", input="FROM busybox\nRUN exit 42\n", check=False)
    assert failed.returncode == 42
    assert "returned a non-zero code: 42" in failed.stderr

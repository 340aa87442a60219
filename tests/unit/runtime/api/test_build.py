"""POST /build: what is asked, what is refused, how errors are told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from runtime.images.reference import Reference
from tests.places import ROOT
from tests.unit.runtime.api.api_server import ApiServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        yield server


Reply = tuple[int, list[dict[str, object]]]


def build(api: ApiServer, body: bytes = b"x", **query: object) -> Reply:
    status, _, text = api.request("POST", f"/build?{urlencode(query, doseq=True)}", body)
    return status, [json.loads(line) for line in text.splitlines()]


def test_all_that_is_asked_arrives(api: ApiServer) -> None:
    query = {
        "t": ["a:1", "b", "a:1"], "dockerfile": "d/D", "target": "s", "nocache": "1", "pull": "1",
        "rm": "0", "q": "1", "buildargs": '{"a": "1", "n": null}', "labels": '{"l": "v"}',
        "cachefrom": '["c"]', "networkmode": "none", "extrahosts": ["h:1.2.3.4"], "memory": "7",
        "memswap": "8", "cpushares": "x", "cpuperiod": "1", "cpuquota": "2", "cpusetcpus": "0",
        "cpusetmems": "1", "cgroupparent": "/p", "shmsize": "9", "buildid": "id",
        "ulimits": '[{"Name": "nofile", "Soft": 1, "Hard": 2}]', "platform": "linux/amd64",
    }  # fmt: skip
    build(api, **query)
    asked = api.engine.builds.requests[-1]
    host = asked.host_config
    assert asked.names == (Reference("a", "1"), Reference("b", "latest"))
    assert (asked.dockerfile, asked.target, asked.build_id) == ("d/D", "s", "id")
    assert (asked.cache, asked.pull, asked.remove, asked.force_remove, asked.quiet) == (
        False, True, False, False, True,
    )  # fmt: skip
    assert (asked.arguments, asked.labels) == ({"a": "1", "n": None}, {"l": "v"})
    assert (asked.cache_from, asked.platform) == (("c",), "linux/amd64")
    assert (host.network_mode, host.extra_hosts) == ("none", ["h:1.2.3.4"])
    assert (host.memory, host.memory_swap, host.cpu_shares) == (7, 8, 0)
    assert (host.cpu_period, host.cpu_quota, host.shm_size) == (1, 2, 9)
    assert (host.cpuset_cpus, host.cpuset_mems, host.cgroup_parent) == ("0", "1", "/p")
    assert host.ulimits is not None
    assert [(u.name, u.soft, u.hard) for u in host.ulimits] == [("nofile", 1, 2)]
    assert host.log_config.type == "none"


@pytest.mark.parametrize(("query", "status", "message"), [
    ({"version": "2"}, 501, "BuildKit is not supported: set DOCKER_BUILDKIT=0"),
    ({"outputs": '[{"Type": "local"}]'}, 501, "outputs are of BuildKit"),
    ({"squash": "1"}, 400, "squash is only supported with experimental mode"),
    ({"isolation": "hyperv"}, 400, 'Unsupported isolation: "hyperv"'),
    ({"securityopt": "x"}, 400, "does not support setting security options on build"),
    ({"buildargs": "x"}, 400, "error reading build args"),
    ({"ulimits": '[{"Name": 5}]'}, 400, "error reading ulimit settings"),
    ({"t": "UPPER"}, 500, "invalid reference format: repository name must be lowercase"),
    ({"t": "a@sha256:" + "0" * 64}, 500, "build tag cannot contain a digest"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_the_build(
    api: ApiServer, query: dict[str, str], status: int, message: str
) -> None:
    got, (said,) = build(api, **query)
    assert got == status
    assert message in str(said["message"])


def test_the_page_has_every_parameter() -> None:
    code = (ROOT / "runtime/api/routes/build.py").read_text()
    read = set(re.findall(r'(?:text|flag|query_list|_number|_json)\((?:call, )?"(\w+)"', code))
    page = (ROOT / "docs/build.md").read_text().partition("with each parameter")[2]
    rows = re.findall(r"^\| (`.+?) \| (honoured|refused|no effect) \|", page, re.MULTILINE)
    listed = {name for cell, _ in rows for name in re.findall(r"`(\w+)`", cell)}
    assert listed - {"session"} == read - {"id"}


def test_an_error_before_the_first_message_is_a_status(api: ApiServer) -> None:
    assert build(api, b"", dockerfile="D") == (
        500, [{"message": "Cannot locate specified Dockerfile: D"}],
    )  # fmt: skip


def test_an_error_after_it_ends_the_stream_with_the_command_s_status(api: ApiServer) -> None:
    message = "The command '/bin/sh -c false' returned a non-zero code: 7"
    assert build(api, b"abc") == (200, [
        {"stream": "3 bytes\n"},
        {"errorDetail": {"code": 7, "message": message}, "error": message},
    ])  # fmt: skip


def test_a_build_is_cancelled_by_its_id(api: ApiServer) -> None:
    assert api.request("POST", "/build/cancel?id=b1")[0] == 200
    assert api.engine.builds.cancelled == ["b1"]
    assert api.request("POST", "/build/cancel")[0] == 400

"""Odd parameters and bodies on every route: 4xx or 501, or taken; never a failure of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from runtime.api.app import ROUTES
from tests.unit.runtime.api.api_server import ApiServer, with_a_container

pytestmark = pytest.mark.slow

PARAMETERS = (
    "filters", "platform", "ask", "name", "repo", "tag", "message", "changes", "fromSrc",
    "fromImage", "names", "since", "until", "tail", "all", "limit", "size", "before", "signal", "t",
    "path", "h", "w", "force", "v", "link", "noprune", "ps_args", "type", "detachKeys",
    "shared-size", "digests", "dangling", "target", "published", "condition", "version",
)  # fmt: skip
ODD = [
    "%ff", "%00", "%ed%a0%80", "-1", "9" * 400, "nan", "..%2f..%2fetc", "%5b" * 3000,
    "%5b" * 80 + "%5d" * 80, "%7b%22a%22%3a" * 80 + "1" + "%7d" * 80,
]  # fmt: skip
BODIES = [
    b"", b"null", b"[]", b"5", b'"x"', b"{", b"\xff",
    b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"Labels": {"a": "\\ud800"}}', b'{"Name": "\\u0000"}', b'{"Memory": ' + b"9" * 5000 + b"}",
    b'{"Image": "busybox", "Env": [null], "HostConfig": {"Binds": [null], "Memory": 1e30}}',
]  # fmt: skip
ENDLESS = ("/attach", "/events", "/stats", "/wait", "/logs", "/start")  # they go on talking


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with with_a_container(tmp_path_factory.mktemp("api")) as server:
        yield server


def paths() -> list[tuple[str, str]]:
    found = [(r.method, r.path) for r in ROUTES if not r.path.endswith(ENDLESS)]
    fake = ("/netkit/", "/exec/", "/restart")  # what the fake engine lacks, or does not check
    ours = [(m, p) for m, p in found if m != "HEAD" and not any(x in p for x in fake)]
    return [(m, p.replace("{checkpoint}", "x")) for m, p in ours]


def test_odd_parameters(api: ApiServer) -> None:
    failed = []
    for method, path in paths():
        for odd in ODD:
            names = PARAMETERS if len(odd) < 1000 else ("filters", "changes", "name")
            query = "&".join(f"{name}={odd}" for name in names)
            status, _, body = api.request(method, f"{path.replace('{ref}', 'c')}?{query}")
            if status == 500:
                failed.append((method, path, odd[:20], body[:200]))
    assert not failed


def test_odd_names_in_paths(api: ApiServer) -> None:
    failed = []
    for method, path in paths():
        for odd in ("%ff", "%00", quote("é/../x"), "a" * 3000, "%5b"):
            status, _, body = api.request(method, path.replace("{ref}", odd))
            if status == 500:
                failed.append((method, path, odd[:20], body[:200]))
    assert not failed


def test_odd_bodies(api: ApiServer) -> None:
    failed = []
    kind = {"Content-Type": "application/json"}
    for method, path in paths():
        for odd in BODIES if method in {"POST", "PUT"} else ():
            status, _, body = api.request(method, path.replace("{ref}", "c"), odd, kind)
            if status == 500:
                failed.append((method, path, odd[:20], body[:200]))
    assert not failed


@pytest.mark.parametrize("size", [[24], [24, 80, 1], [-1, 80], [1 << 32, 80], ["a", 80]])
def test_a_size_that_is_none_is_refused(api: ApiServer, size: list[Any]) -> None:
    image: dict[str, Any] = {"Image": "busybox", "Cmd": ["true"]}
    created = api.request(
        "POST", "/containers/create", {**image, "HostConfig": {"ConsoleSize": size}}
    )
    body = {"Cmd": ["true"], "Tty": True, "ConsoleSize": size}
    execs = api.request("POST", "/containers/x/exec", body)
    start = api.request("POST", "/exec/x/start", {"Tty": True, "ConsoleSize": size})
    for status, _, answer in (created, execs, start):
        assert status == 400, answer
        assert b"ConsoleSize" in answer

"""Routes of volumes: statuses, bodies and filters as dockerd's."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.unit.runtime.api.api_server import ApiServer


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def test_a_volume_through_the_api(api: ApiServer) -> None:
    shown = api.json("POST", "/volumes/create", {"Name": "vol", "Labels": {"a": "b"}})
    assert set(shown) == {
        "CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope",
    }  # fmt: skip
    assert (shown["Driver"], shown["Scope"], shown["Options"]) == ("local", "local", None)
    assert shown["Mountpoint"].endswith("/volumes/vol/_data")
    assert api.json("GET", "/volumes/vol") == shown
    assert api.json("GET", "/volumes") == {"Volumes": [shown], "Warnings": None}
    usage = api.json("GET", "/system/df?type=volume")["Volumes"]
    assert usage == [{**shown, "UsageData": {"RefCount": 0, "Size": 0}}]
    assert api.error("DELETE", "/volumes/vo") == (404, "get vo: no such volume")
    assert api.request("DELETE", "/volumes/vol")[0] == 204
    assert api.request("DELETE", "/volumes/vol?force=1")[0] == 204


def test_an_anonymous_volume_has_a_label_since_prune_looks_at_it(api: ApiServer) -> None:
    named = api.json("POST", "/volumes/create", {})["Name"]
    anonymous = {"com.docker.volume.anonymous": ""}
    assert api.json("GET", f"/volumes/{named}")["Labels"] == anonymous
    assert api.json("GET", f"/v1.41/volumes/{named}")["Labels"] is None


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"name": ["v"]}, ["v1", "v22"]),
        ({"name": ["v1", "other"]}, ["other", "v1"]),
        ({"label": ["a"]}, ["v1", "v22"]),
        ({"label": ["a=2"]}, ["v22"]),
        ({"driver": ["local"]}, ["other", "v1", "v22"]),
        ({"driver": ["no"]}, []),
        ({"dangling": ["true"]}, ["other", "v1", "v22"]),
        ({"dangling": ["false"]}, []),
    ],
)
def test_filters(api: ApiServer, filters: dict[str, list[str]], found: list[str]) -> None:
    for name, labels in {"v1": {"a": "1"}, "v22": {"a": "2"}, "other": None}.items():
        api.json("POST", "/volumes/create", {"Name": name, "Labels": labels})
    shown = api.json("GET", f"/volumes?filters={quote(json.dumps(filters))}")
    assert [v["Name"] for v in shown["Volumes"]] == found


@pytest.mark.parametrize(
    ("path", "filters", "message"),
    [
        ("GET /volumes", '{"bogus":["1"]}', "Invalid filter 'bogus'"),
        ("GET /volumes", '{"dangling":["zz"]}', "Invalid filter 'dangling=[zz]'"),
        ("POST /volumes/prune", '{"bogus":["1"]}', "Invalid filter 'bogus'"),
        ("POST /volumes/prune", '{"until":["1h"]}', "Invalid filter 'until'"),
        ("POST /v1.41/volumes/prune", '{"all":["true"]}', "Invalid filter 'all'"),
    ],
)
def test_filters_that_cannot_be(api: ApiServer, path: str, filters: str, message: str) -> None:
    method, _, place = path.partition(" ")
    assert api.error(method, f"{place}?filters={quote(filters)}") == (400, message)


def test_prune_takes_named_volumes_before_1_42_or_with_all(api: ApiServer) -> None:
    def pruned(path: str) -> object:
        api.json("POST", "/volumes/create", {"Name": "named"})
        return api.json("POST", path)["VolumesDeleted"]

    assert pruned("/volumes/prune") is None
    assert pruned("/volumes/prune?filters=" + quote('{"all":["1"]}')) == ["named"]
    assert pruned("/v1.41/volumes/prune") == ["named"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"Name": "a"}, 400), ({"Name": "a/b"}, 400), ({"Name": "ok", "Driver": "nosuch"}, 404),
     ({"Name": "oo", "DriverOpts": {"bogus": "1"}}, 400), ({"Name": 1}, 400),
     ({"Name": "nn", "DriverOpts": {"type": "nfs", "device": ":/x"}}, 501)],
)  # fmt: skip
def test_requests_that_are_refused(api: ApiServer, body: dict[str, object], status: int) -> None:
    assert api.error("POST", "/volumes/create", body)[0] == status
    assert api.json("GET", "/volumes")["Volumes"] == []


def test_a_failure_of_the_host_is_in_the_log_and_a_refusal_is_not(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    assert api.error("GET", "/volumes/none")[0] == 404
    assert caplog.messages == []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        status, text = api.error("POST", "/v1.41/volumes/create", {"Name": "vol"})
    assert (status, text[:35]) == (500, "create vol: No space left on device")
    assert caplog.messages == [f"POST /v1.41/volumes/create failed: {text}"]

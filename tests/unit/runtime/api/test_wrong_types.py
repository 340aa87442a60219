"""Each field of each JSON body, at every depth, given as each wrong type: 400 that names it, or
taken as Go's encoding/json takes it; never a failure of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from inspect import getsource
from typing import Any

import pytest
from msgspec import inspect

from netkit.errors import InvalidSpec
from runtime.api.app import ROUTES
from runtime.api.routes import cluster, cni, networks, ovn, volumes, weave
from runtime.api.routes import exec as execs
from runtime.api.server import gojson
from runtime.container import config
from runtime.container.options import ExecConfig, UpdateRequest
from runtime.network.access_request import AccessRequest
from runtime.registry.credentials import AuthBody
from tests.unit.runtime.api.api_server import ApiServer, with_a_container

pytestmark = pytest.mark.slow

WRONG: dict[str, Any] = {
    "null": None, "list": [], "object": {}, "number": 7, "fraction": 1.5, "string": "x",
    "true": True, "list of lists": [[]], "list of nulls": [None], "object of lists": {"k": []},
    "object of nulls": {"k": None}, "list of numbers": [7], "object of objects": {"k": {}},
}  # fmt: skip
BASE: dict[str, tuple[type, dict[str, Any]]] = {
    "/containers/create": (config.CreateRequest, {"Image": "busybox", "Cmd": ["true"]}),
    "/containers/c/update": (UpdateRequest, {}),
    "/containers/c/exec": (ExecConfig, {"Cmd": ["true"]}),
    "/exec/x/start": (execs.StartBody, {}),
    "/networks/create": (networks.NetworkCreateRequest, {"Name": "n"}),
    "/netkit/networks/plan/create": (networks.NetworkCreateRequest, {"Name": "n"}),
    "/volumes/create": (volumes.VolumeCreateRequest, {"Name": "vv"}),
    "/auth": (AuthBody, {"username": "u", "password": "p"}),
    "/networks/bridge/connect": (networks.ConnectBody, {"Container": "c"}),
    "/networks/bridge/disconnect": (networks.DisconnectBody, {"Container": "c"}),
    "/commit?container=c": (config.Config, {}),
    "/netkit/firewall/access": (AccessRequest, {}),
    "/netkit/cluster/init": (cluster.JoinRequest, {}),
    "/netkit/cluster/join": (cluster.JoinRequest, {}),
    "/netkit/ovn/up": (ovn.UpRequest, {}),
    "/netkit/ovn/down": (ovn.DownRequest, {}),
    "/netkit/cluster/leave": (cluster.Leaving, {}),
    "/netkit/cni": (cni.CniRequest, {}),
    "/netkit/weave/launch": (weave.LaunchRequest, {}),
    "/netkit/weave/connect": (weave.ConnectRequest, {}),
    "/netkit/weave/forget": (weave.ForgetRequest, {}),
    "/netkit/weave/attach": (weave.AttachRequest, {}),
    "/netkit/weave/detach": (weave.DetachRequest, {}),
    "/netkit/weave/expose": (weave.ExposeRequest, {}),
    "/netkit/weave/hide": (weave.HideRequest, {}),
    "/netkit/weave/dns/add": (weave.DnsRequest, {}),
    "/netkit/weave/dns/remove": (weave.DnsRequest, {}),
    "/netkit/weave/rmpeer": (weave.RmPeerRequest, {}),
    "/netkit/weave/reset": (weave.ResetRequest, {}),
}


def places(shape: inspect.Type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all fields; "[]" is an item of a list, "{}" a value of an object."""
    for each in shape.types if isinstance(shape, inspect.UnionType) else (shape,):
        match each:
            case inspect.StructType(fields=fields):
                for field in fields:
                    yield (*path, field.encode_name)
                    yield from places(field.type, (*path, field.encode_name))
            case inspect.ListType(item_type=item) | inspect.DictType(value_type=item):
                step = "[]" if isinstance(each, inspect.ListType) else "{}"
                yield (*path, step)
                yield from places(item, (*path, step))


def placed(base: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`base` with the value at the path, in new objects and lists."""
    for step in reversed(path[1:]):
        value = [value] if step == "[]" else {"80/tcp" if step == "{}" else step: value}
    return {**base, path[0]: value}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with with_a_container(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.mark.parametrize("route", BASE)
def test_a_wrong_type_is_refused_by_the_name_of_its_field(api: ApiServer, route: str) -> None:
    kind, base = BASE[route]
    failed = []
    for path in places(inspect.type_info(kind)):
        for name, wrong in WRONG.items():
            body = placed(base, path, wrong)
            try:
                if gojson.convert(body, kind) == gojson.convert(base, kind):
                    continue  # as if it were not there
            except InvalidSpec as error:  # as the handler would; a request takes longer
                named = any(step in str(error) for step in path if step not in {"[]", "{}"})
                status, message = 400 if named else 0, str(error)
            else:
                status, _, answer = api.request("POST", route, body)
                message = json.loads(answer)["message"] if status >= 400 else ""
            if (status == 500 and "'FakeEngine' object" not in message) or status == 0:
                failed.append((".".join(path), name, status, message))
    assert not failed


@pytest.mark.parametrize("body", ["[]", "5", '"x"', "true", "[{}]", "nul", "{", "{}{}", "1e999"])
def test_a_body_that_is_no_object_is_refused(api: ApiServer, body: str) -> None:
    kind = {"Content-Type": "application/json"}
    for route in BASE:
        status, _, answer = api.request("POST", route, body, kind)
        assert status == 400, (route, answer)
        assert json.loads(answer)["message"]


def test_all_routes_with_a_body_are_here() -> None:
    """A new route that reads one needs a line above."""
    own = {re.sub("/(c|x|bridge)/", "/{ref}/", path).partition("?")[0] for path in BASE}
    reads = {
        route.path
        for route in ROUTES
        if route.method in {"POST", "PUT"}
        and re.search(r"\bcall\.(raw_)?body\(", getsource(route.handler))
    }
    assert reads - own == {"/containers/{ref}/start"}  # HostConfig at start, before API 1.24

"""Every field of the API is honoured, refused, or documented as without effect.

`api-1.51-fields.txt` is the API's own list; docs/options.md says what becomes of each; the code is
held to both.  A field that is new in one of the three fails here until all agree.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import inspect

from netkit.errors import InvalidSpec, NotSupported
from runtime.api import older_versions
from runtime.api.server import gojson
from runtime.api.version import NEWEST
from runtime.container import config
from runtime.images.model import ImageConfig
from runtime.lifecycle import create
from runtime.oci import spec
from tests.places import ROOT
from tests.unit.runtime.oci.test_spec import host

TOP = ROOT
TYPES = {
    "Config": config.Config,
    "HostConfig": config.HostConfig,
    "EndpointSettings": config.EndpointSettings,
    "Mount": config.Mount,
    "BindOptions": config.BindOptions,
    "TmpfsOptions": config.TmpfsOptions,
}
HONOURED, REFUSED, NO_EFFECT = "honoured", "refused", "no effect"

# A value of each field that is refused, and of those without effect: nothing may come of it.
SAMPLES: dict[str, Any] = {
    "HostConfig.Cgroup": "a:b",
    "HostConfig.StorageOpt": {"size": "1G"}, "HostConfig.UsernsMode": "private",
    "HostConfig.Runtime": "nosuch", "HostConfig.Isolation": "hyperv",
    "HostConfig.CpuRealtimePeriod": 1000, "HostConfig.CpuRealtimeRuntime": 950,
    "HostConfig.DeviceRequests": [{"Count": -1}],
    "Mount.ClusterOptions": {},
}  # fmt: skip
HARMLESS: dict[str, Any] = {
    "Config.AttachStdin": True, "Config.AttachStdout": True, "Config.AttachStderr": True,
    "Config.ArgsEscaped": True, "Config.OnBuild": ["RUN x"], "HostConfig.ContainerIDFile": "/x",
    "HostConfig.KernelMemory": 1 << 30, "HostConfig.KernelMemoryTCP": 1 << 30,
    "HostConfig.CpuCount": 1, "HostConfig.CpuPercent": 1, "HostConfig.IOMaximumIOps": 1,
    "HostConfig.IOMaximumBandwidth": 1, "Mount.Consistency": "cached",
    "EndpointSettings.NetworkID": "n", "EndpointSettings.EndpointID": "e",
    "EndpointSettings.Gateway": "10.0.0.1", "EndpointSettings.IPAddress": "10.0.0.2",
    "EndpointSettings.IPPrefixLen": 24, "EndpointSettings.IPv6Gateway": "fe80::1",
    "EndpointSettings.GlobalIPv6Address": "fe80::2", "EndpointSettings.GlobalIPv6PrefixLen": 64,
    "EndpointSettings.DNSNames": ["x"],
}  # fmt: skip


@cache
def api() -> dict[str, list[str]]:
    text = (Path(__file__).parent / "api-1.51-fields.txt").read_text()
    rows = [line.split(": ") for line in text.splitlines() if not line.startswith("#")]
    return {name: fields.split() for name, fields in rows}


@cache
def documented() -> dict[str, tuple[str, str]]:
    """(verdict, remark) by "Type.Field"."""
    found: dict[str, tuple[str, str]] = {}
    kind = ""
    for line in (TOP / "docs" / "options.md").read_text().splitlines():
        if line.startswith("## "):
            kind = line[3:]
        if row := re.fullmatch(r"\| `(\w+)` \| ([a-z ]+) \| (.*) \|", line):
            assert f"{kind}.{row[1]}" not in found
            found[f"{kind}.{row[1]}"] = (row[2], row[3].strip())
    return found


def with_verdict(verdict: str) -> list[str]:
    return [name for name, (have, _) in documented().items() if have == verdict]


@cache
def attributes(kind: str) -> dict[str, str]:
    """Map the API's names to names in the code."""
    shape = inspect.type_info(TYPES[kind])
    assert isinstance(shape, inspect.StructType)
    return {f.encode_name: f.name for f in shape.fields}


def prepared(name: str, value: object) -> tuple[create.CreateSpec, dict[str, Any]]:
    """Create with one field set; return the result and the document for the runtime."""
    kind, _, field = name.partition(".")
    body: dict[str, Any] = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {}}
    match kind:
        case "Config":
            body[field] = value
        case "HostConfig":
            body["HostConfig"][field] = value
        case "Mount":
            kinds = {"ImageOptions": "image", "ClusterOptions": "cluster"}
            mount = {"Type": kinds.get(field, "bind"), "Source": "/a", "Target": "/b"}
            body["HostConfig"]["Mounts"] = [{**mount, field: value}]
        case "EndpointSettings":
            body["HostConfig"]["NetworkMode"] = "web"
            body["NetworkingConfig"] = {"EndpointsConfig": {"web": {field: value}}}
    request = gojson.convert(body, config.CreateRequest)
    older_versions.create_request(request, NEWEST)
    outcome = create.validate_create(request, ImageConfig(), "1" * 64)
    spec.check(outcome.config, outcome.host_config, host())
    return outcome, body


def test_every_field_of_the_api_is_documented_and_nothing_else_is() -> None:
    assert set(documented()) == {f"{kind}.{field}" for kind in api() for field in api()[kind]}
    assert {verdict for verdict, _ in documented().values()} == {HONOURED, REFUSED, NO_EFFECT}


@pytest.mark.parametrize("kind", TYPES)
def test_the_code_knows_no_field_that_the_api_has_not(kind: str) -> None:
    assert set(attributes(kind)) <= set(api()[kind])


def test_what_is_honoured_or_refused_is_read_by_the_code() -> None:
    code = "\n".join(
        path.read_text()
        for path in (TOP / "runtime").rglob("*.py")
        if path != TOP / "runtime" / "containers" / "config.py"
    )
    for name in (*with_verdict(HONOURED), *with_verdict(REFUSED)):
        kind, _, field = name.partition(".")
        if name.endswith(("ImageOptions", "ClusterOptions")):
            continue  # by the type of their mount
        attribute = attributes(kind).get(field)
        assert attribute, f"{name} is not parsed"
        assert re.search(rf"\.{attribute}\b", code), f"{name} is parsed, and then what?"


# which runtime there is the daemon alone knows: tests/engine/test_run_options.py asks it
@pytest.mark.parametrize("name", sorted({*with_verdict(REFUSED)} - {"HostConfig.Runtime"}))
def test_what_is_refused_is_refused_in_one_line(name: str) -> None:
    with pytest.raises((InvalidSpec, NotSupported)) as error:
        prepared(name, SAMPLES[name])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) > 20


@pytest.mark.parametrize("name", with_verdict(NO_EFFECT))
def test_what_has_no_effect_has_none_and_says_why(name: str) -> None:
    assert documented()[name][1], f"{name}: why not?"
    plain, _ = prepared("Config.Tty", value=False)
    outcome, _ = prepared(name, HARMLESS[name])
    assert outcome.warnings == plain.warnings

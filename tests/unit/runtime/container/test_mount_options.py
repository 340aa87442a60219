"""Options of a mount belong to its type: each combination is honoured or refused."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from netkit.errors import InvalidSpec, NotSupported
from runtime.container import mounts
from runtime.container.config import Config, HostConfig, Mount

KINDS = ("Bind", "Volume", "Image", "Tmpfs", "Cluster")
SOURCES = {"bind": "/srv", "volume": "", "tmpfs": "", "image": "busybox", "cluster": "shared"}


def points(kind: str, **more: Any) -> list[str]:
    """The types of what is mounted for one entry of HostConfig.Mounts."""
    mount = {"Type": kind, "Source": SOURCES.get(kind, ""), "Target": "/data", **more}
    host = msgspec.convert({"Mounts": [mount]}, HostConfig)
    return [point.type for point in mounts.mount_points(Config(), host, [])]


def test_every_field_of_options_is_tried() -> None:
    fields = {field for field in Mount.__struct_fields__ if field.endswith("_options")}
    assert fields == {f"{kind.lower()}_options" for kind in KINDS}
    assert set(mounts.TYPES) == {kind.lower() for kind in KINDS} == set(SOURCES)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("kind", SOURCES)
def test_options_of_another_type_are_refused(kind: str, options: str) -> None:
    given = {f"{options}Options": {}}
    if kind != options.lower():
        line = f'type "{kind}": field {options}Options must not be specified (mount of /data)'
        with pytest.raises(InvalidSpec, match=re.escape(line)):
            points(kind, **given)
    elif kind in {"image", "cluster"}:
        with pytest.raises(InvalidSpec, match="mount type unknown"):
            points(kind, **given)
    else:
        assert points(kind, **given) == ([] if kind == "volume" else [kind])


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("kind", ["", "npipe", "nosuch"])
def test_an_unknown_type_is_refused_whatever_its_options(kind: str, options: str) -> None:
    with pytest.raises(InvalidSpec, match="mount type unknown"):
        points(kind, **{f"{options}Options": {}})


def test_a_named_volume_with_options_of_a_bind_is_refused_for_the_options() -> None:
    with pytest.raises(InvalidSpec, match="field BindOptions"):
        points("volume", Source="named", BindOptions={})
    with pytest.raises(NotSupported, match="not supported yet"):
        points("volume", Source="named", VolumeOptions={})

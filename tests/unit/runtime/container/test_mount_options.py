"""Options of a mount belong to its type: each combination is honoured or refused."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from netkit.errors import InvalidSpec, NotFound
from runtime.container import mount_specs, mounts
from runtime.container.config import Config, HostConfig, Mount
from runtime.container.model import Container, MountPoint

KINDS = ("Bind", "Volume", "Image", "Tmpfs", "Cluster")
SOURCES = {"bind": "/srv", "volume": "", "tmpfs": "", "image": "busybox", "cluster": "shared"}


def points(kind: str, **more: Any) -> list[str]:
    """The types of what is mounted for one entry of HostConfig.Mounts."""
    mount = {"Type": kind, "Source": SOURCES.get(kind, ""), "Target": "/data", **more}
    host = msgspec.convert({"Mounts": [mount]}, HostConfig)
    return [point.type for point in mounts.mount_points(Config(), host)]


def test_every_field_of_options_is_tried() -> None:
    fields = {field for field in Mount.__struct_fields__ if field.endswith("_options")}
    assert fields == {f"{kind.lower()}_options" for kind in KINDS}
    assert set(mount_specs.TYPES) == {kind.lower() for kind in KINDS} == set(SOURCES)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("kind", SOURCES)
def test_options_of_another_type_are_refused(kind: str, options: str) -> None:
    given = {f"{options}Options": {}}
    if kind != options.lower():
        line = f'type "{kind}": field {options}Options must not be specified'
        with pytest.raises(InvalidSpec, match=re.escape(line)):
            points(kind, **given)
    elif kind == "cluster":
        with pytest.raises(InvalidSpec, match="mount type unknown"):
            points(kind, **given)
    else:
        assert points(kind, **given) == [kind]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("kind", ["", "npipe", "nosuch"])
def test_an_unknown_type_is_refused_whatever_its_options(kind: str, options: str) -> None:
    with pytest.raises(InvalidSpec, match="mount type unknown"):
        points(kind, **{f"{options}Options": {}})


def test_a_named_volume_with_options_of_a_bind_is_refused_for_the_options() -> None:
    with pytest.raises(InvalidSpec, match="field BindOptions"):
        points("volume", Source="named", BindOptions={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vol:rel", 'invalid volume specification: \'vol:rel\': invalid mount config for type '
                    '"volume": invalid mount path: \'rel\' mount path must be absolute'),
        ("vol:/", "invalid volume specification: 'vol:/': invalid mount config for type "
                  '"volume": invalid specification: destination can\'t be \'/\''),
        ("vol:/a:bogus", "invalid mode: bogus"),
        ("vol:/a:ro,rw", "invalid mode: ro,rw"),
        ("vol:/a:z,Z", "invalid mode: z,Z"),
        ("a:/b:/c:/d", "invalid volume specification: 'a:/b:/c:/d'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        (":/a", "invalid volume specification: ':/a'"),
        ("/a:/b:nocopy", 'invalid mount config for type "bind": field VolumeOptions must not be'),
        ("vol:/a:rslave", 'invalid mount config for type "volume": field BindOptions must not be'),
    ],
)  # fmt: skip
def test_a_short_form_is_refused_in_dockerds_words(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=f"^.*{re.escape(message)}"):
        mount_specs.short(text, "")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Type": "volume", "ReadOnly": True}, "must not set ReadOnly mode when using anonymous"),
        ({"Type": "volume", "Source": "v", "VolumeOptions": {"Subpath": "../x"}},
         "subpath must be a relative path within the volume"),
        ({"Type": "volume", "Source": "v", "VolumeOptions": {"Subpath": "/x"}},
         "subpath must be a relative path within the volume"),
        ({"Type": "image", "Source": ""}, "field Source must not be empty"),
        ({"Type": "image", "Source": "i", "ImageOptions": {"Subpath": "a/../../b"}},
         "subpath must be a relative path within the image"),
        ({"Type": "tmpfs", "Source": "x"}, "field Source must not be specified"),
        ({"Type": "bind", "Source": ""}, "field Source must not be empty"),
        ({"Type": "volume", "Target": ""}, "field Target must not be empty"),
    ],
)  # fmt: skip
def test_a_mount_that_cannot_be_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=f'type "{more["Type"]}": {re.escape(message)}'):
        points(more["Type"], **more)


def shown(config: Config, host: HostConfig, inherited: list[MountPoint] | None = None) -> set[str]:
    found = mounts.mount_points(config, host, inherited or [])
    return {f"{p.type}|{p.name}|{p.destination}|{p.mode}|{p.rw}|{p.anonymous}" for p in found}


def test_what_is_said_of_each_kind_of_mount() -> None:
    host = msgspec.convert(
        {
            "Binds": ["nn:/n:ro", "/srv:/b", "cc:/c/:nocopy"],
            "Mounts": [
                {"Type": "volume", "Target": "/mv"},
                {"Type": "volume", "Source": "mn", "Target": "/mn", "ReadOnly": True},
                {"Type": "image", "Source": "busybox", "Target": "/i"},
            ],
        },
        HostConfig,
    )
    host.tmpfs = {"/t": ""}
    config = Config(volumes={"/a": {}, "/n": {}, "rel": {}, "..": {}, "/t/": {}})
    assert shown(config, host) == {
        "volume|nn|/n|ro|False|False", "bind||/b||True|False", "volume|cc|/c|nocopy|True|False",
        "volume||/mv|z|True|True", "volume|mn|/mn|z|False|False", "image|busybox|/i||False|False",
        "volume||/a||True|True", "volume||/rel||True|True",
    }  # fmt: skip
    assert list(config.volumes or ()) == ["/a", "/n", "rel", "..", "/t/"]


def container(*found: MountPoint) -> Container:
    return Container(
        id="c" * 64, name="src", created="", image="", config=Config(), host_config=HostConfig(),
        mounts=list(found),
    )  # fmt: skip


def test_mounts_of_other_containers_come_first_and_keep_their_access() -> None:
    source = container(
        MountPoint(type="volume", name="vol", destination="/data", mode="z", source="/v"),
        MountPoint(type="volume", name="f" * 64, destination="/anon", anonymous=True),
        MountPoint(type="bind", source="/srv", destination="/b", mode="ro", rw=False),
        MountPoint(type="bind", source="/m", destination="/m", mode="mount", rw=True),
        MountPoint(type="tmpfs", destination="/t"),
    )
    host = HostConfig(volumes_from=["src:ro"], binds=["other:/data"])
    found = mounts.inherit(host, lambda ref: source)
    assert shown(Config(volumes={"/anon": {}}), host, found) == {
        "volume|other|/data|z|True|False", f"volume|{'f' * 64}|/anon||False|True",
        "bind||/b||False|False", "bind||/m|mount|False|False",
    }  # fmt: skip
    writable = mounts.inherit(HostConfig(volumes_from=["src"]), lambda ref: source)
    assert [p.rw for p in writable] == [True, True, False, True]


@pytest.mark.parametrize("mode", ["bogus", "nocopy", "rslave", "ro,rw"])
def test_a_mode_of_volumes_from_that_cannot_be(mode: str) -> None:
    with pytest.raises(InvalidSpec, match=f"^invalid mode: {mode}$"):
        mounts.inherit(HostConfig(volumes_from=[f"src:{mode}"]), lambda ref: container())


def test_volumes_from_a_container_that_is_not_there() -> None:
    def find(ref: str) -> Container:
        raise NotFound(f"No such container: {ref}")

    # not 404, upon which Docker's client would pull the image
    with pytest.raises(InvalidSpec, match=r"^No such container: nosuch$"):
        mounts.inherit(HostConfig(volumes_from=["nosuch"]), find)

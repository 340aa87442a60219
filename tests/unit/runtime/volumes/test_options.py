"""Names and options of volumes: what dockerd takes, in its words what it refuses."""

from __future__ import annotations

import pytest

from netkit.errors import NetkitError, NotFound, NotSupported
from runtime.rootfs import mount
from runtime.volumes import options


@pytest.mark.parametrize("name", ["ab", "a.b", "0_", "A" * 255])
def test_a_name_that_can_be(name: str) -> None:
    options.check_name(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a", "create a: volume name is too short, names should be at least two"),
        ("a/b", 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ("-a", 'create -a: "-a" includes invalid characters'),
        ("..", 'create ..: ".." includes invalid characters'),
        ("ab\n", "includes invalid characters"),
        ("A" * 256, "volume name is too long"),
    ],
)
def test_a_name_that_cannot_be(name: str, words: str) -> None:
    with pytest.raises(NetkitError) as caught:
        options.check_name(name)
    assert caught.value.status == 400
    assert words in str(caught.value)


def test_there_is_one_driver() -> None:
    options.check_driver("v", "")
    options.check_driver("v", "local")
    with pytest.raises(NotFound, match=r'^create v: error looking up volume plugin x: plugin "x"'):
        options.check_driver("v", "x")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bogus": "1"}, 'create v: invalid option: "bogus"'),
        ({"type": "tmpfs"}, 'create v: missing required option: "device"'),
        ({"device": "x"}, 'create v: missing required option: "type"'),
        ({"o": "bind"}, 'create v: missing required option: "device"'),
        ({"size": "1m"}, "create v: quota size requested but no quota support"),
        ({"type": "tmpfs", "device": "x", "o": "size=1m,what"}, "mount option 'what'"),
        ({"type": "none", "device": "a", "o": "bind"}, "must be an absolute path"),
        ({"type": "none", "device": "/a\0b", "o": "bind"}, 'a NUL character in option "device"'),
    ],
)
def test_options_that_cannot_be(given: dict[str, str], words: str) -> None:
    with pytest.raises(NetkitError) as caught:
        options.mounting("v", given)
    assert caught.value.status == 400
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "ext4", "none", "overlay", "proc"])
def test_other_file_systems_are_refused_in_a_line(kind: str) -> None:
    given = {"type": kind, "device": ":/srv", "o": "addr=10.0.0.1"}
    with pytest.raises(NotSupported, match=f"a volume of type={kind} is not supported"):
        options.mounting("v", given)


def test_a_tmpfs_and_a_bind() -> None:
    assert options.mounting("v", None) is options.mounting("v", {}) is None
    tmpfs = options.mounting("v", {"type": "tmpfs", "device": "t", "o": "size=1m,uid=7,nosuid"})
    assert tmpfs == options.Mounting("tmpfs", "t", 0, mount.MS_NOSUID, "size=1m,uid=7")
    bind = options.mounting("v", {"type": "none", "device": "/srv", "o": "ro,bind"})
    assert bind == options.Mounting("none", "/srv", mount.MS_BIND, mount.MS_RDONLY, "")

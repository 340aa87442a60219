"""The archive of busybox."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest

from netkit.bootstrap import busybox
from netkit.errors import InvalidSpec, NotFound

needs = pytest.mark.skipif(not busybox.BINARY.exists(), reason="needs busybox-static")


@needs
def test_it_has_applets_users_and_the_same_bytes_each_time() -> None:
    data = busybox.rootfs()
    assert data == busybox.rootfs()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777
        passwd = tar.extractfile("etc/passwd")
        assert passwd is not None
        assert passwd.read().startswith(b"root:x:0:0:")
        assert {m.mtime for m in tar.getmembers()} == {busybox.EPOCH}


@needs
def test_a_program_that_needs_a_dynamic_linker_is_known() -> None:
    assert not busybox.needs_linker(busybox.BINARY.read_bytes())
    assert busybox.needs_linker(Path(sys.executable).read_bytes())
    assert not busybox.needs_linker(b"#!/bin/sh\n")


def test_without_a_static_busybox_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="busybox-static"):
        busybox.rootfs(binary=tmp_path / "busybox")
    with pytest.raises(InvalidSpec, match=r"is not static: .* busybox-static"):
        busybox.rootfs(binary=Path(sys.executable))

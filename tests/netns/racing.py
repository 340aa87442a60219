"""Race one way of reaching files against a swapped directory:  python -m tests.netns.racing.

Run in a throw-away root only (`private_root`): a naive way does reach what is outside.  Below
/race/top, which stands for a container's root or for a build's context, `box` is now a directory,
now a link to /race/host.  A way has leaked when it returned anything of /race/host or changed it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import NetkitError
from runtime.build.copying import CopyRequest, copy, gather
from runtime.build.files import FilesOnDisk
from runtime.filetree.scoped_root import Root
from runtime.images.layer_pack import pack
from runtime.rootfs import tar_in, tar_out
from runtime.rootfs.diff import changes
from runtime.rootfs.stat import stat_path
from runtime.volumes.fill import fill
from tests.engine.swapping import swapping

SECRET, INSIDE = b"the host's own file", b"the container's"
ALONE = "only-the-host-has-this"  # a file's name
RACE = Path("/race")
TOP, HOST, OUT = RACE / "top", RACE / "host", RACE / "out"
CAUGHT_SECONDS = 30  # in which a naive way must have leaked
REAL_SECONDS = 600


class Leak(Exception):
    pass


@dataclass(frozen=True)
class Way:
    """Returns what it has seen; OSError or NetkitError if it refused."""

    naive: Callable[[], bytes]
    real: Callable[[], bytes]


# Naive ones look first, and use the path's string then, as much software does.


def _checked(path: str) -> Path:
    found = TOP / path
    if TOP not in (real := Path(os.path.realpath(found))).parents and real != TOP:
        raise PermissionError(f"{path} leads outside")
    return found


def _naive_stat() -> bytes:
    return b"%d bytes" % _checked("box/file").stat().st_size


def _naive_read() -> bytes:
    return _checked("box/file").read_bytes()


def _naive_write() -> bytes:
    (_checked("box") / "planted").touch()
    return b""


def _naive_walk(top: str = "") -> Iterator[Path]:
    for entry in os.listdir(TOP / top):
        path = f"{top}/{entry}" if top else entry
        yield TOP / path
        if not (TOP / path).is_symlink() and (TOP / path).is_dir():
            yield from _naive_walk(path)


def _naive_archive() -> bytes:
    files = (p for p in _naive_walk() if not p.is_symlink() and p.is_file())
    return b"".join(p.read_bytes() for p in files)


def _naive_names() -> bytes:
    return b"\n".join(os.fsencode(p) for p in _naive_walk())


def _naive_copy() -> bytes:
    shutil.copyfile(_checked("box/file"), OUT / "copied")
    return (OUT / "copied").read_bytes()


# Those of the engine


def _stat() -> bytes:
    with Root(TOP) as root:
        return b"%d bytes" % stat_path(root, "/box/file").size


def _read() -> bytes:
    with Root(TOP) as root:
        return b"".join(tar_out.archive(root, "/box/file")[1])


def _read_folder() -> bytes:
    with Root(TOP) as root:
        return b"".join(tar_out.archive(root, "/box/.")[1])


def _write() -> bytes:
    with Root(TOP) as root:
        tar_in.unpack(root, "/box", io.BytesIO(_PLANTED), no_overwrite_dir=False)
    return b""


def _export() -> bytes:
    with Root(TOP) as root:
        return b"".join(tar_out.export(root))


def _commit() -> bytes:
    found: list[bytes] = []
    with Root(TOP) as root:
        top = root.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            pack(top, lambda data: found.append(bytes(data)))
        finally:
            os.close(top)
    return b"".join(found)


def _diff() -> bytes:
    empty = OUT / "empty"
    empty.mkdir(exist_ok=True)
    return repr(changes(TOP, [empty])).encode()


def _copied(source: Path, path: str, target: Path, name: str) -> bytes:
    """COPY of a build, from a context or from another image's files."""
    request = CopyRequest(
        sources=(path,), destination=name, working_dir="/", chown="", is_add=False, from_image=True
    )
    with (
        Root(source) as below, Root(target) as image,
        gather(request, FilesOnDisk(below), OUT, lambda _: None) as sources,
    ):  # fmt: skip
        copy(sources, image)
    return b""


def _build_from() -> bytes:
    target = OUT / "image"
    target.mkdir()
    try:
        _copied(TOP, "box", target, "/copied")
        return b"".join(p.read_bytes() for p in target.rglob("*") if _plain(p))
    finally:
        shutil.rmtree(target)


def _build_to() -> bytes:
    return _copied(OUT, "planted", TOP, "/box/planted")


def _fill() -> bytes:
    volume = OUT / "volume" / "_data"
    volume.mkdir(parents=True)
    source = os.open(TOP, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fill(volume, volume.parent, source)
        return b"".join(p.read_bytes() for p in volume.rglob("*") if _plain(p))
    finally:
        os.close(source)
        shutil.rmtree(volume.parent)


def _plain(path: Path) -> bool:
    return not path.is_symlink() and path.is_file()


def _tar(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return out.getvalue()


_PLANTED = _tar("planted")
WAYS = {
    "stat": Way(_naive_stat, _stat),
    "copy out": Way(_naive_read, _read),
    "copy out of a folder": Way(_naive_archive, _read_folder),
    "copy in": Way(_naive_write, _write),
    "export": Way(_naive_archive, _export),
    "commit": Way(_naive_archive, _commit),
    "diff": Way(_naive_names, _diff),
    "build from": Way(_naive_copy, _build_from),
    "build to": Way(_naive_write, _build_to),
    "first use of a volume": Way(_naive_archive, _fill),
}


def _lay() -> None:
    for folder in (TOP / "box", HOST, OUT):
        folder.mkdir(parents=True)
    (TOP / "box" / "file").write_bytes(INSIDE)
    (TOP / "other").symlink_to(HOST)
    (HOST / "file").write_bytes(SECRET)
    (HOST / ALONE).touch()
    (OUT / "planted").touch()


def _judge(seen: bytes) -> None:
    if any(m in seen for m in (SECRET, b"%d bytes" % len(SECRET), ALONE.encode())):
        raise Leak("it returned what is outside")
    if sorted(os.listdir(HOST)) != sorted(["file", ALONE]):
        raise Leak("it changed what is outside")


def _rounds(way: Callable[[], bytes], count: int, seconds: float) -> dict[str, int]:
    """Repeat until it leaks, or has been tried so often and has worked once.

    {"rounds", "refused", "leaked": the round, or 0 for none}.
    """
    found = {"rounds": 0, "refused": 0, "leaked": 0}
    end = time.monotonic() + seconds
    while found["rounds"] < count or found["refused"] == found["rounds"]:
        if time.monotonic() > end:
            break
        found["rounds"] += 1
        try:
            _judge(way())
        except (OSError, NetkitError):
            found["refused"] += 1
        except Leak:
            return found | {"leaked": found["rounds"]}
    return found


def main(name: str, rounds: int) -> None:
    _lay()
    way = WAYS[name]
    with swapping(TOP, "box", "other"):
        naive = _rounds(way.naive, 1 << 30, CAUGHT_SECONDS)
        (HOST / "planted").unlink(missing_ok=True)
        real = _rounds(way.real, rounds, REAL_SECONDS)
    print(json.dumps({"real": real, "naive": naive}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

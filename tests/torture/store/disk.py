"""A disk of an engine that can be copied at an instant, as after a power cut.

The engine's root is an ext4 file system in a file, and that file is on an XFS that is in a file,
too: XFS makes a copy of a file at one instant (FICLONE, ioctl_ficlonerange(2)).  Such a copy has
what the engine's file system had sent to its disk by then, and what was in memory only is lost.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUTER_BYTES = 4 << 30  # sparse
SIZE = 512 << 20


def _run(*argv: str | Path) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")


def _sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


class Disk:
    """Mounted on the directory `place` while the context lasts."""

    def __init__(self, place: Path, size: int = SIZE) -> None:
        self.place = place
        self._size = size
        self._folder = Path(tempfile.mkdtemp(prefix="nk-disk.", dir="/tmp"))
        self._outer = self._folder / "outer"
        self._image = self._outer / "engine.img"
        self._mounted: list[Path] = []

    def __enter__(self) -> Disk:
        try:
            self._outer.mkdir()
            file = _sparse(self._folder / "outer.img", OUTER_BYTES)
            _run("mkfs.xfs", "-q", "-m", "reflink=1", file)
            self._mount(file, self._outer)
            _sparse(self._image, self._size)
            _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", self._image)
            self.place.mkdir(parents=True, exist_ok=True)
            self._mount(self._image, self.place)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for place in reversed(self._mounted):
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mount(self, file: Path, place: Path) -> None:
        _run("mount", "-o", "loop", file, place)
        self._mounted.append(place)

    def copy(self) -> Path:
        """Copy the disk as it is at this instant; the file of the copy."""
        copy = self._outer / "copy.img"
        copy.unlink(missing_ok=True)
        _run("cp", "--reflink=always", self._image, copy)
        return copy

    @contextmanager
    def mounted(self, copy: Path, place: Path) -> Iterator[None]:
        """Mount a copy at `place`, which replays its journal, as a boot after a power cut."""
        place.mkdir(parents=True, exist_ok=True)
        _run("mount", "-o", "loop", copy, place)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)

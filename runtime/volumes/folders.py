"""Directories of volumes.

ROOT/volumes/NAME/_data    what containers see of volume NAME; with options, a mount point
ROOT/volumes/.gone-X       of a removed volume, being deleted
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from netkit.errors import Conflict, InvalidSpec, KernelError
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import HOST_ERRORS
from runtime.filetree.sync import sync_directory
from runtime.filetree.walk import walk
from runtime.rootfs import mount
from runtime.undo import Undo

_GONE = ".gone-"  # no volume's name begins with a dot


class VolumeFolders:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def home(self, name: str) -> Path:
        return self._root / name

    def data(self, name: str) -> Path:
        return self._root / name / "_data"

    def all(self) -> set[str]:
        return {p.name for p in self._root.iterdir() if not p.name.startswith(".")}

    def make(self, name: str) -> None:
        """Create the directories of a volume, if they do not exist: both or none.

        InvalidSpec for a name that the file system refuses, KernelError for a full or broken disk.
        """
        home, data = self.home(name), self.data(name)
        try:
            with Undo() as undo:
                if not home.is_dir():
                    home.mkdir(mode=0o700)
                    undo.push(home.rmdir)
                if not data.exists():
                    data.mkdir(mode=0o700)
                    undo.push(data.rmdir)
                    data.chmod(0o755)  # whatever the umask
        except OSError as e:
            kind = KernelError if e.errno in HOST_ERRORS else InvalidSpec
            raise kind(f"create {name}: {e.strerror}: {e.filename}") from e

    def unmake(self, name: str) -> None:
        """Undo `make` of a volume that has no files.  Takes no space on the disk.  OSError."""
        for folder in (self.data(name), self.home(name)):
            with suppress(FileNotFoundError):
                folder.rmdir()

    def empty(self, name: str) -> bool:
        """Is nothing in the volume's directory, or is there none?"""
        try:
            return not os.listdir(self.data(name))
        except FileNotFoundError:
            return True

    def check_removable(self, name: str) -> None:
        """Conflict if something is mounted in it: its files would be deleted with the volume's."""
        if found := mount.points(self.home(name)):
            raise Conflict(f"remove {name}: {found[-1]} is a mount point: unmount it first")

    def put_aside(self, name: str) -> Path | None:
        """Rename the directories of a removed volume, at once; where to, for `remove_tree`."""
        self.check_removable(name)
        away = self._root / f"{_GONE}{secrets.token_hex(8)}"
        try:
            self.home(name).rename(away)
        except FileNotFoundError:
            return None
        # On the disk before its row goes: files without a row become a volume again.
        sync_directory(self._root)
        return away

    def leftovers(self) -> list[Path]:
        """Directories of removed volumes that a kill of the daemon left."""
        return sorted(p for p in self._root.iterdir() if p.name.startswith(_GONE))

    @staticmethod
    def delete(away: Path) -> None:
        """Delete what `put_aside` renamed.  Conflict if something is mounted in it."""
        if found := mount.points(away):
            raise Conflict(f"{found[-1]} is a mount point: unmount it")
        remove_tree(away)

    def size(self, name: str) -> int:
        """Bytes of its files, each inode once, as far as they can be counted."""
        seen: set[tuple[int, int]] = set()
        total = 0
        with suppress(FileNotFoundError):
            top = os.open(self.data(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with suppress(Conflict):
                    for entry in walk(top):
                        st = entry.st
                        if stat.S_ISDIR(st.st_mode):
                            continue
                        if st.st_nlink > 1:
                            if (st.st_dev, st.st_ino) in seen:
                                continue
                            seen.add((st.st_dev, st.st_ino))
                        total += st.st_size
            finally:
                os.close(top)
        return total

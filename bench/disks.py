"""The file systems of an engine's folders, as on a usual host: /run in memory, the rest on a disk.

The disk is an ext4 with a journal, in a file.  Virtual machines for tests often have one without,
which passes over each inode that was removed in the last minutes when it looks for a free one
(recently_deleted() in fs/ext4/ialloc.c): after some hundred containers a start takes twice as long,
whatever the engine.
"""

from __future__ import annotations

import subprocess

from tests.engine.daemon import Engine

SIZE = "16G"  # sparse


def mount(engine: Engine) -> None:
    """Before its first start.  `Engine.destroy` unmounts them.  CalledProcessError."""
    disk = engine.folder / "disk"
    engine.root.mkdir()
    engine.rundir.mkdir()
    for argv in (
        ["mount", "-t", "tmpfs", "-o", "mode=755", "nk-bench", str(engine.rundir)],
        ["truncate", "-s", SIZE, str(disk)],
        ["mkfs.ext4", "-q", str(disk)],
        # Its tables of inodes are not written in the background while something is measured.
        ["mount", "-o", "loop,noinit_itable", str(disk), str(engine.root)],
    ):
        subprocess.run(argv, check=True, capture_output=True, timeout=60)

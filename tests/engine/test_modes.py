"""Who may read what below --root: root, as in Docker."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from tests import hostile
from tests.engine import image
from tests.engine.daemon import Engine, fresh, netkit_only

# What the users of containers see: trees of images and containers, and files mounted into them
INSIDE = re.compile(
    r"images/layers/\w{64}/diff|snapshots/(\w{64}/(diff|init|work)|empty)|init/\w{32}|"
    r"volumes/\w+/_data"
)
SHARED = re.compile(r"containers/\w{64}/(hosts|hostname|resolv\.conf)")


def open_to_other_users(root: Path) -> Iterator[str]:
    for path in (root, *root.rglob("*")):
        name = str(path.relative_to(root))
        if INSIDE.match(name) or SHARED.fullmatch(name) or path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (0o077 & ~(0o010 if path.is_dir() else 0o040)):
            yield f"{mode:o} {name}"


@netkit_only("its files differ")
def test_nothing_below_the_root_is_accessible_to_other_users(own_engine: Engine) -> None:
    engine = own_engine
    engine.load_image()
    engine.docker("network", "create", "back")
    flags = ["--network", "back", "-v", "vol:/data"]
    name = engine.up(*flags, "busybox", "sh", "-c", "echo a; sleep 100000")
    assert engine.run("-u", "1000", "busybox", "cat", "/etc/resolv.conf", "/etc/hosts")
    assert list(open_to_other_users(engine.root)) == []
    # a root that an older daemon made
    engine.stop()
    for path in (engine.root, engine.root / "images", engine.root / "images/blobs"):
        path.chmod(0o755)
    loose = [*(engine.root / "images/blobs/sha256").iterdir(), *engine.root.glob("netkit.db*")]
    for path in loose:
        path.chmod(0o644)
    engine.restart()
    assert list(open_to_other_users(engine.root)) == []
    engine.docker("rm", "-f", name)


def test_the_root_of_a_container_is_open_whatever_the_image_says(engine: Engine) -> None:
    """So images of `tar -C "$(mktemp -d)" -c .` work for users other than root."""
    closed = hostile.tar([hostile.entry("./", hostile.DIR, mode=0o700, uid=5)])[:512]
    tag = fresh("closed")
    engine.out("import", "-", tag, input=closed + image.rootfs())
    assert engine.run("-u", "1000:1000", tag, "stat", "-c", "%a %u", "/") == "755 0"

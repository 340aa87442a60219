"""The daemon is killed while volumes are made, filled and removed: all of each or nothing of it.

NETKIT_TEST_KILLS is how often, as in tests/engine/test_survival.py.
"""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
import time
from io import BytesIO
from pathlib import Path

from tests.engine import image
from tests.engine.daemon import DOCKER, Engine, fresh, netkit_only

KILLS = int(os.environ.get("NETKIT_TEST_KILLS", "16"))
SEED = int(os.environ.get("NETKIT_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
FILES = 300

pytestmark = netkit_only("dockerd copies into the volume itself")


def seed(engine: Engine) -> None:
    """An image `seeded` with FILES files in folders below /srv."""
    made = BytesIO(image.rootfs())
    with tarfile.open(fileobj=made, mode="a", format=tarfile.PAX_FORMAT) as tar:
        for number in range(FILES):
            entry = tarfile.TarInfo(f"srv/{number % 7}/{number}")
            entry.size = 5000
            tar.addfile(entry, BytesIO(bytes(5000)))
    flags = [word for change in image.CHANGES for word in ("-c", change)]
    engine.docker("import", *flags, "-", "seeded", input=made.getvalue())


def killed_during(engine: Engine, after: float, *command: str) -> bool:
    """Run docker, kill the daemon `after` seconds, start it again; did docker succeed?"""
    client = subprocess.Popen(
        [DOCKER, "-H", engine.host, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=engine.cli_environment(),
    )
    time.sleep(after)
    engine.kill9()
    code = client.wait(60)
    engine.restart()
    return code == 0


def state(engine: Engine) -> tuple[set[str], set[str], dict[str, int]]:
    """Names of containers and volumes, and how many files each volume has."""
    containers = set(engine.out("ps", "-a", "--format", "{{.Names}}").split())
    volumes = set(engine.out("volume", "ls", "-q").split())
    top = Path(engine.root) / "volumes"
    assert {p.name for p in top.iterdir()} == volumes, "a directory and no volume, or the reverse"
    files = {}
    for name in volumes:
        assert [p.name for p in (top / name).iterdir()] == ["_data"]
        sizes = [p.stat().st_size for p in (top / name / "_data").rglob("*") if p.is_file()]
        assert set(sizes) <= {5000}
        files[name] = len(sizes)
    return containers, volumes, files


def test_volumes_are_whole_or_not_there_over_many_kills(own_engine: Engine) -> None:
    print(f"seed {SEED}")
    engine, chance = own_engine, random.Random(SEED)
    engine.load_image()
    seed(engine)
    begin = time.monotonic()
    engine.out("create", "--name", "first", "-v", "kept:/srv", "-v", "/anon", "seeded")
    usual = time.monotonic() - begin
    expected, named = {"first"}, {"kept"}
    made = 0
    for _ in range(KILLS):
        name = fresh("c")
        flags = ["-v", f"v-{name}:/srv", "-v", "/anon"]
        if killed_during(engine, chance.uniform(0, usual * 1.2), "create", "--name", name, *flags,
                         "seeded"):  # fmt: skip
            expected.add(name)
        containers, volumes, files = state(engine)
        if name in containers:  # it was complete, though its client was not told
            expected.add(name)
        assert containers == expected
        named |= {f"v-{name}"} if name in expected else set()
        assert named <= volumes
        assert len(volumes) == len(named) + len(expected), "an anonymous one for each container"
        assert {files[each] for each in named} == {FILES}
        made += name in expected
        if len(expected) > 3:
            gone = max(expected - {"first"})
            killed_during(engine, chance.uniform(0, 0.3), "rm", "-v", gone)
            containers, volumes, files = state(engine)
            assert containers in (expected, expected - {gone})
            expected = containers
            killed_during(engine, chance.uniform(0, 0.2), "volume", "rm", f"v-{gone}")
            named &= state(engine)[1]
            assert named <= volumes
            engine.docker("rm", "-v", gone, check=False)
            engine.docker("volume", "rm", "-f", f"v-{gone}")
            expected -= {gone}
            named -= {f"v-{gone}"}
    assert state(engine)[2]["kept"] == FILES

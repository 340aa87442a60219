"""Ways into a tree whose directories are swapped for links: the engine's own never leave it.

Naive ones, which look where a path leads and then use the path, do, under the same swapper: so the
race is one that can be lost.  All of it happens in a throw-away root (`private_root`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.netns.private_root import CHECKOUT, lacking, python, run_private
from tests.netns.racing import WAYS

ROUNDS = int(os.environ.get("NETKIT_TEST_RACES", "1000"))

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "-"),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_naive_way_is_caught_and_the_engines_is_not(way: str, tmp_path: Path) -> None:
    argv = python("tests.netns.racing", way, str(ROUNDS))
    done = run_private(tmp_path, *argv, timeout=60 + ROUNDS / 50)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["naive"]["leaked"], found
    assert found["real"]["rounds"] >= ROUNDS, found
    assert not found["real"]["leaked"], found
    assert found["real"]["refused"] < found["real"]["rounds"], found


def test_nothing_of_the_machine_can_be_written_or_named(tmp_path: Path) -> None:
    """Else the naive ways should not run."""
    script = (
        "id -u; touch /x /usr/x /proc/1/root/x 2>&1 | grep -c -e denied -e Read-only;"
        f" ls -d /etc /home /var /boot {tmp_path} /race/*; ls /"
    )
    done = run_private(tmp_path, "sh", "-c", script)
    places = {str(Path(p)).split("/")[1] for p in (sys.base_prefix, sys.prefix, CHECKOUT)}
    uid, refused, *names = done.stdout.split()
    assert (uid, refused) == ("0", "3"), done
    assert set(names) <= {"bin", "dev", "lib", "lib64", "proc", "race", "sbin", "usr"} | places
    assert os.listdir(tmp_path) == []

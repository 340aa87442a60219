"""Which engines can be measured here: `bench.peers`, `script/reference --newest`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from bench.peers import NAMES, NEWEST, available, newest
from tests.places import ROOT

# In the place of script/unpack: makes a program that runs, unless its release is one of $BROKEN.
UNPACK = """#!/bin/sh
[ "$1" = --release ] && release=$2 && shift 2
[ "$1" = --depends ] && shift
mkdir -p "$1/usr/sbin" "$1/usr/bin"
case " $BROKEN " in *" $release "*) code=1 ;; *) code=0 ;; esac
for program in "$1/$2" "$1/usr/bin/containerd"; do
    printf '#!/bin/sh\\nexit %s\\n' $code >"$program"
    chmod +x "$program"
done
echo "$1"
"""


def program(place: Path, name: str, release: str) -> Path:
    folder, inside = NEWEST[name]
    path = place / f"{folder}-{release}" / inside
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return place / f"{folder}-{release}"


@pytest.mark.parametrize("name", NEWEST)
def test_the_newest_unpacked_release_is_found(tmp_path: Path, name: str) -> None:
    assert newest(name, tmp_path) is None
    trixie = program(tmp_path, name, "trixie")
    assert newest(name, tmp_path) == trixie
    sid = program(tmp_path, name, "sid")
    assert newest(name, tmp_path) == sid


def test_what_is_unpacked_of_one_engine_is_no_other(tmp_path: Path) -> None:
    program(tmp_path, "podman-newest", "sid")
    found = available([*NEWEST], tmp_path)
    assert found["podman-newest"] == ""
    assert "script/reference --newest" in found["dockerd-newest"]


def test_an_engine_that_is_not_there_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("NETKIT_TEST_DOCKERD", "NETKIT_BENCH_PODMAN"):
        monkeypatch.delenv(variable, raising=False)
    found = available([*NAMES, "rkt"], tmp_path)
    assert found["dockerd"] == "not in PATH nor in NETKIT_TEST_DOCKERD"
    assert found["podman"] == "not in PATH nor in NETKIT_BENCH_PODMAN"
    assert found["rkt"] == f"unknown (known: {', '.join(NAMES)})"


def unpacked(place: Path, broken: Collection[str]) -> subprocess.CompletedProcess[str]:
    script = place / "script"
    script.mkdir()
    shutil.copy(ROOT / "script/reference", script)
    (script / "unpack").write_text(UNPACK)
    (script / "unpack").chmod(0o755)
    return subprocess.run(
        [script / "reference", "--newest"], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "BROKEN": " ".join(broken)},
    )  # fmt: skip


def test_the_newest_of_both_is_unpacked_where_it_runs(tmp_path: Path) -> None:
    done = unpacked(tmp_path, ())
    assert done.stdout.split() == [str(newest(name, tmp_path)) for name in NEWEST]
    assert [path.rpartition("-")[2] for path in done.stdout.split()] == ["sid", "sid"]


def test_a_dockerd_that_does_not_run_here_is_left_for_one_that_does(tmp_path: Path) -> None:
    done = unpacked(tmp_path, ["sid"])
    assert [Path(path).name for path in done.stdout.split()] == [
        ".reference-trixie", ".reference-podman-sid"
    ]  # fmt: skip
    assert done.stdout.split() == [str(newest(name, tmp_path)) for name in NEWEST]

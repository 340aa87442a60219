"""Record what docker's CLI sends for builds: `python -m tests.unit.netkit.cli.build_record`.

Writes golden/build.json, one entry a command line.  Needs `docker` in PATH, no engine.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.unit.netkit.cli import build_cases
from tests.unit.netkit.cli.cli_cases import ENVIRONMENT, lines
from tests.unit.netkit.cli.cli_fake_daemon import running
from tests.unit.netkit.cli.cli_record import requests

GOLDEN = Path(__file__).parent / "golden" / "build.json"
ALL = lines(build_cases.CALLS) + lines(build_cases.BAD) + build_cases.ignoring()
WARNING = re.compile(r"DEPRECATED: The legacy builder.*?\n\n", re.DOTALL)
RANDOM = re.compile(r"\.dockerfile\.[0-9a-f]{20}")
SIZE = re.compile(r"(Sending build context to Docker daemon) +\S+(\r\r\n)")


def prepare(folder: Path) -> None:
    for name, text in build_cases.files().items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text, newline="")
            path.chmod(0o644)
    with tarfile.open(folder / "context.tar", "w") as archive:
        for name in ("Dockerfile", "docker/File"):
            archive.addfile(*_member(name, build_cases.FROM.encode()))


def _member(name: str, text: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    return info, io.BytesIO(text)


def split(line: str) -> tuple[list[str], str]:
    """The words of a command line, and the file its standard input comes from."""
    words, _, source = line.partition(" < ")
    return shlex.split(words), source or os.devnull


def normal(line: str, code: int, out: str, err: str, rows: list[Any], folder: Path) -> Any:
    """What is compared; of trees with a .dockerignore the names that are sent."""
    asked = requests(rows)
    for _, path, _, body in asked:
        if path == "/build" and isinstance(body, list):
            body.sort(key=str)
    if line in build_cases.ignoring():
        names = [" ".join(member[0] for member in body) for *_, body in asked]
        return json.loads(json.dumps({"code": code, "err": err, "names": names}))
    text = json.dumps({"code": code, "out": SIZE.sub(r"\1\2", out), "err": err, "asked": asked})
    return json.loads(RANDOM.sub(".dockerfile.R", text.replace(str(folder), "/FOLDER")))


def record(line: str, folder: Path) -> Any:
    words, source = split(line)
    with running(folder / "s") as daemon, open(folder / source, "rb") as stdin:
        done = subprocess.run(
            ["docker", "-H", f"unix://{folder}/s", *words],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CLI_HINTS": "false",
                 "DOCKER_CONFIG": str(folder / "config"), "DOCKER_BUILDKIT": "0", **ENVIRONMENT},
            stdin=stdin,
            capture_output=True,
            timeout=20,
            check=False,
        )  # fmt: skip
        rows = daemon.record.rows()
    err = WARNING.sub("", done.stderr.decode())
    return normal(line, done.returncode, done.stdout.decode(), err, rows, folder)


def main() -> None:
    found = {}
    for line in ALL:
        with tempfile.TemporaryDirectory(prefix="nk-", dir="/tmp") as top:
            prepare(Path(top))
            found[line] = record(line, Path(top))
    text = [f"{json.dumps(line)}: {json.dumps(each)}" for line, each in found.items()]
    GOLDEN.write_text("{\n" + ",\n".join(text) + "\n}\n")


if __name__ == "__main__":
    main()

"""Record what the stock docker CLI asks and prints: `python -m tests.unit.netkit.cli.cli_record`.

Writes golden/cli.json, one entry a command line.  Needs `docker` in PATH, no engine.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.unit.netkit.cli.cli_cases import ALL, ENVIRONMENT, FILES
from tests.unit.netkit.cli.cli_fake_daemon import running

# Where an empty value is an answer, and null is none.
DISTINGUISHED = ("Init", "StopTimeout", "MaskedPaths", "ReadonlyPaths", "EnableIPv4", "EnableIPv6")
UNKNOWN_SIZE = [0, 0]  # ConsoleSize when there is no terminal
GOLDEN = Path(__file__).parent / "golden" / "cli.json"


def prepare(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)


def normal(value: Any) -> Any:
    """Drop null, "", 0, false, [] and {}: they are the daemon's defaults."""
    if isinstance(value, dict):
        kept = {key: normal(each) for key, each in value.items()}
        for key in ("Env", "Binds", "Config"):
            if isinstance(kept.get(key), list):
                kept[key].sort(key=str)  # docker's order is that of a Go map
        # -1 is how the CLI says that no swappiness was asked for.
        return {
            key: each for key, each in sorted(kept.items())
            if each is not None
            and (key in DISTINGUISHED or each not in ("", 0, False, [], {}, UNKNOWN_SIZE))
            and not (key == "MemorySwappiness" and each == -1)
        }  # fmt: skip
    if isinstance(value, list):
        return [normal(each) for each in value]
    return value


def requests(rows: list[list[Any]]) -> list[list[Any]]:
    """Method, path, query and body of each request, normalized."""
    return [
        [method, path, {key: given for key, given in sorted(query.items()) if given != [""]},
         normal(body)]
        for method, path, query, body in rows
    ]  # fmt: skip


def record(docker: str, line: str, folder: Path) -> dict[str, Any]:
    """Exit code, output and requests of one command line."""
    folder.mkdir()
    prepare(folder)
    socket = folder / "s"
    with running(socket) as daemon:
        done = subprocess.run(
            [docker, "-H", f"unix://{socket}", *shlex.split(line)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CLI_HINTS": "false",
                 "DOCKER_CONFIG": str(folder / "config"), **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )  # fmt: skip
        rows = daemon.record.rows()
    text = json.dumps(
        {"code": done.returncode, "out": done.stdout, "err": done.stderr, "asked": requests(rows)}
    )
    found: dict[str, Any] = json.loads(text.replace(str(folder), "/FOLDER"))
    return found


def main() -> None:
    docker = shutil.which("docker") or sys.exit("no docker in PATH")
    found = {}
    with tempfile.TemporaryDirectory(prefix="nk-", dir="/tmp") as top:
        for number, line in enumerate(ALL):
            found[line] = record(str(docker), line, Path(top) / str(number))
    version = subprocess.run([str(docker), "--version"], capture_output=True, text=True, check=True)
    GOLDEN.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(line)}: {json.dumps(each)}" for line, each in found.items()]
    head = json.dumps(version.stdout.strip())
    GOLDEN.write_text(f'{{"docker": {head}, "cases": {{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()

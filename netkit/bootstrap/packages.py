"""Packages beyond debootstrap's: chosen and downloaded by this machine's apt, for another root.

debootstrap's own --include knows no virtual packages (nginx-abi-...) and no alternatives; apt does,
and goes the way of this machine's proxies and certificates.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

from netkit.bootstrap.isolation import Say, run
from netkit.bootstrap.request import Request

FOLDER = "var/local/packages"  # in the image
SOURCE = f"deb [trusted=yes] file:/{FOLDER} ./\n"
LIST = "etc/apt/sources.list.d/local.list"
APT = ("apt-get", "-q", "-y", "--no-install-recommends")
_EPOCH = re.compile(r"_\d+%3a")  # in names that apt gives files, not in those of an archive


def download(root: Path, work: Path, request: Request, mirror: str, keyring: str, log: Say) -> Path:
    """Download what is to be installed and kept, with what that needs beyond `root`; its folder."""
    state, cache = work / "apt/state", work / "apt/cache"
    (state / "lists/partial").mkdir(parents=True)
    (cache / "archives/partial").mkdir(parents=True)
    sources = work / "apt/sources.list"
    words = " ".join(request.components)
    sources.write_text(f"deb [signed-by={keyring}] {mirror} {request.suite} {words}\n")
    settings = {
        "Dir::State": state, "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": cache, "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none", "APT::Sandbox::User": "root",  # `work` is root's alone
    }  # fmt: skip
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    names = sorted({*request.include, *request.packages})
    run([*APT, *options, "update"], log)
    run([*APT, *options, "--download-only", "install", *names], log)
    return cache / "archives"


def keep(root: Path, files: Sequence[Path], epoch: int) -> None:
    """Make them an apt source within the root, and the only one of its kind."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    entries = []
    for file in sorted(files, key=lambda each: each.name):
        data, name = file.read_bytes(), _EPOCH.sub("_", file.name)
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644)
        entries.append(f"{control(file)}{index_lines(name, data)}\n")
    index = "".join(entries).encode()
    (folder / "Packages").write_bytes(index)
    (folder / "Release").write_text(release(index, epoch))
    (root / LIST).write_text(SOURCE)


def release(index: bytes, epoch: int) -> str:
    """Without it apt asks for each compressed form of the index, and says that there is none."""
    date = formatdate(epoch, usegmt=True).replace("GMT", "UTC")
    return f"Date: {date}\nSHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"


def forget(root: Path) -> None:
    """Remove the source again."""
    for file in [*(root / FOLDER).iterdir(), root / LIST]:
        file.unlink()
    (root / FOLDER).rmdir()


def control(file: Path) -> str:
    """The fields of a package, as they stand in an index."""
    done = subprocess.run(
        ["dpkg-deb", "--field", str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def index_lines(name: str, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"Filename: ./{name}\nSize: {len(data)}\nSHA256: {digest}\n"


def install(root: Path, names: Sequence[str], log: Say, epoch: int) -> None:
    """By the apt of the root, from the source that `keep` made."""
    for words in (["update"], ["install", *names]):
        in_root(root, [*APT, "-o", "Dir::Etc::sourcelist=/dev/null", *words], log, epoch)


def installed(root: Path) -> frozenset[str]:
    return frozenset(in_root(root, ["dpkg-query", "-W", "-f", "${Package}\n"]).split())


def in_root(
    root: Path, argv: Sequence[str], log: Say = lambda line: None, epoch: int | None = None
) -> str:
    """Run a program in the root, which has /proc for that time."""
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    return run(["sh", "-c", enter, str(root), *argv], log, epoch)

"""What this machine has for bootstrapping: debootstrap and its suites, apt and its mirrors."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from netkit.errors import InvalidSpec, NotFound

SCRIPTS = Path("/usr/share/debootstrap/scripts")
# Programs and the Debian packages they are in.
NEEDED = {
    "debootstrap": "debootstrap", "apt-get": "apt", "dpkg-deb": "dpkg", "tar": "tar",
    "unshare": "util-linux", "setpriv": "util-linux", "chroot": "coreutils",
}  # fmt: skip
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 60
_GO = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i386": "386"}


def must_be_able() -> None:
    """InvalidSpec without root, NotFound without a program: what to do, in a line."""
    if os.geteuid() != 0:
        raise InvalidSpec("bootstrapping needs root (mounts, device files, owners): use sudo")
    absent = [program for program in NEEDED if not shutil.which(program, path=PATH)]
    if absent:
        packages = " ".join(dict.fromkeys(NEEDED[program] for program in absent))
        raise NotFound(
            f"{', '.join(absent)} is not in PATH: install it (apt-get install {packages})"
        )


def must_have(keyring: str, package: str) -> None:
    """NotFound without the keyring: a mirror whose signatures cannot be checked is not used."""
    if not Path(keyring).is_file():
        raise NotFound(
            f"{keyring} is missing, so signatures of the mirror cannot be checked: install the"
            f" package {package}, or name another (--keyring)"
        )


def scripts(folder: Path = SCRIPTS) -> dict[str, str]:
    """debootstrap's suites, each with its script."""
    if not folder.is_dir():
        raise NotFound(f"{folder} is missing: install the Debian package debootstrap")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    known = (n for n in names if "." not in n and n != "debian-common")
    return {name: (folder / name).read_text(errors="replace") for name in known}


def architecture() -> str:
    """As Debian names it."""
    return _output("dpkg", "--print-architecture").strip()


def machine() -> str:
    """As the Engine API names architectures."""
    return _GO.get(platform.machine(), platform.machine())


def mirror(distribution: str, suite: str) -> str:
    """The URL that apt here has the suite from, else another suite of it; "" if it has none."""
    lines = _output(
        "apt-get", "indextargets", "--format", "$(CODENAME) $(LABEL) $(REPO_URI)",
        "Created-By: Packages", f"Origin: {distribution.capitalize()}",
    )  # fmt: skip
    return chosen(lines.splitlines(), distribution, suite)


def chosen(lines: Iterable[str], distribution: str, suite: str) -> str:
    """Pure: of `CODENAME LABEL URL` lines; archives of updates have another label."""
    found = [line.split() for line in lines]
    usable = [
        (words[0], words[2].rstrip("/")) for words in found
        if len(words) == 3 and words[1] == distribution.capitalize()
        and words[2].startswith(("http://", "https://"))
    ]  # fmt: skip
    exact = [url for codename, url in usable if codename == suite]
    return (exact or [url for _, url in usable] or [""])[0]


def _output(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, "PATH": PATH, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else ""

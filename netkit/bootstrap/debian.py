"""The root file system of a Debian-like distribution as a tar archive, by debootstrap."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

from netkit.bootstrap import host, packages
from netkit.bootstrap.isolation import Say, run
from netkit.bootstrap.request import Request, checked, without_password
from netkit.bootstrap.workfolder import locked, work_folder
from netkit.errors import KernelError

DAY = 86_400  # seconds
# `import -c` lines that make the image run without arguments.
CHANGES = (
    'CMD ["bash"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
# What is the machine's, the moment's, or a copy: the same packages make the same tree.
_TIDY = r"""
set -eu
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache \
    /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/*- /var/log/apt/* /var/log/bootstrap.log \
    /var/log/dpkg.log /var/log/alternatives.log /var/log/fontconfig.log /var/lib/dbus/machine-id \
    /var/lib/systemd/random-seed /tmp/* /var/tmp/*
find /var/log -xdev -type f -exec truncate -s 0 {} +
for file in /etc/machine-id /etc/hostname /etc/resolv.conf; do
    if [ -e $file ] || [ -L $file ]; then rm -f $file && : >$file; fi
done
sed -i "s/^\([^:]*:[^:]*:\)[0-9][0-9]*:/\1$2:/" /etc/shadow
printf '%s\n' "$1" >/etc/apt/sources.list
# There is no init in a container that could start services.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# A layer is flushed to the disk as a whole: not each file of each package as well.
printf 'force-unsafe-io\n' >/etc/dpkg/dpkg.cfg.d/netkit
# What apt can make again stays out of layers.
printf '%s\n' 'Dir::Cache::pkgcache "";' 'Dir::Cache::srcpkgcache "";' \
    'Acquire::Languages "none";' >/etc/apt/apt.conf.d/netkit
"""


@contextmanager
def archive(
    request: Request, cache: Path | None = None, temporary: Path = Path("/var/tmp"),
    *, say: Say, log: Say = lambda line: None,
) -> Iterator[Path]:  # fmt: skip
    """A tar archive, there while the context is; made, unless the folder `cache` has it.

    `say` is called with what happens, `log` with each line of output.  InvalidSpec, NotFound or
    KernelError says in a line why not.  Nothing is left of one that was interrupted; of a killed
    one, what the next one removes.
    """
    if cache is None:
        _able(request)
        with work_folder(temporary) as work:
            yield _made(checked(request, host.scripts()), work, None, say, log)
        return
    request = checked(request, host.scripts())
    cache = cache.absolute()
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    file = cache / f"{request.key(host.architecture())}.tar"
    with locked(cache / ".lock"):
        if file.exists():
            say(f"{request.suite} is taken from {file}")
        else:
            _able(request)
            (cache / "packages").mkdir(exist_ok=True)
            with work_folder(cache) as work:
                _publish(_made(request, work, cache / "packages", say, log), file)
    yield file


def _able(request: Request) -> None:
    host.must_be_able()
    checked(request, host.scripts())
    host.must_have(request.keyring or _keyring(request), f"{request.distribution}-archive-keyring")


def _keyring(request: Request) -> str:
    """debootstrap's choice."""
    return f"/usr/share/keyrings/{request.distribution}-archive-keyring.gpg"


def _publish(made: Path, file: Path) -> None:
    """Give it its name once it is on the disk, so that a file with that name is whole."""
    with made.open("rb") as data:
        os.fsync(data.fileno())
    os.replace(made, file)


def _made(request: Request, work: Path, kept: Path | None, say: Say, log: Say) -> Path:
    root, begin = work / "root", time.monotonic()
    mirror = request.mirror or host.mirror(request.distribution, request.suite)
    say(f"{request.suite} from {without_password(mirror) or 'the mirror debootstrap knows'}")
    _debootstrap(request, root, mirror, kept, log)
    released = epoch(root) if request.epoch is None else request.epoch
    source = (root / "etc/apt/sources.list").read_text().split()[1]
    if request.include or request.packages:
        _more(request, root, work, mirror or source, released, log)
    line = f"deb {without_password(source)} {request.suite} {' '.join(request.components)}"
    if request.packages:
        line = f"# {line}"  # it is for use without a network: apt would wait for it
    packages.in_root(root, ["sh", "-c", _TIDY, "tidy", line, str(released // DAY)])
    file = work / "rootfs.tar"
    pack(root, file, released)
    size = file.stat().st_size / 1e6
    say(f"{size:.0f} MB in {time.monotonic() - begin:.0f} s")
    return file


def _debootstrap(request: Request, root: Path, mirror: str, kept: Path | None, log: Say) -> None:
    options = ["--force-check-gpg", f"--components={','.join(request.components)}"]
    options += [] if request.variant == "-" else [f"--variant={request.variant}"]
    options += [f"--keyring={request.keyring}"] if request.keyring else []
    options += [f"--cache-dir={kept}"] if kept else []
    where = [request.suite, str(root), *([mirror] if mirror else [])]
    run(["debootstrap", *options, *where], log, request.epoch)


def _more(request: Request, root: Path, work: Path, mirror: str, released: int, log: Say) -> None:
    """Install packages, and keep others for later."""
    keyring = request.keyring or _keyring(request)
    folder = packages.download(root, work, request, mirror, keyring, log)
    files = sorted(folder.glob("*.deb"))
    packages.keep(root, files, released)
    if request.include:
        packages.install(root, request.include, log, released)
    if request.packages:
        there = packages.installed(root)
        packages.keep(root, [f for f in files if f.name.partition("_")[0] not in there], released)
    else:
        packages.forget(root)


def epoch(root: Path) -> int:
    """When the suite was released last, in seconds: the date in the Release file of the mirror."""
    lists = root / "var/lib/apt/lists"
    for file in sorted(lists.glob("*Release")):
        if found := re.search(r"^Date: *(.+)$", file.read_text(errors="replace"), re.MULTILINE):
            return int(parsedate_to_datetime(found[1]).timestamp())
    raise KernelError(f"debootstrap left no Release file with a date in {lists}")


def pack(root: Path, file: Path, newest: int) -> None:
    """Archive a tree: sorted, no times after `newest`, nothing of this machine's in the headers."""
    run(
        ["tar", "--create", f"--file={file}", f"--directory={root}", "--sort=name",
         "--numeric-owner", "--format=posix", "--one-file-system",
         "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
         f"--mtime=@{newest}", "--clamp-mtime", "--xattrs", "--xattrs-include=security.capability",
         "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./run/*", "."],
        alone=(),
    )  # fmt: skip

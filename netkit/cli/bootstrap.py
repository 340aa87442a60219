"""image bootstrap: base images of debootstrap and of static busybox, without a registry."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from netkit.cli import progress
from netkit.cli.commands import command, exactly
from netkit.cli.flags import Options, many, switch, text
from netkit.cli.references import split_tag
from netkit.cli.values import comma_list
from netkit.client.failure import Exit, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from netkit.cli.session import Session

BLOCK = 1 << 18  # bytes
BUSYBOX = "busybox"
OF_DEBOOTSTRAP = ("include", "packages", "variant", "mirror", "components", "keyring", "cache")
MORE = """DISTRIBUTION:SUITE is a suite that debootstrap on this machine knows, as debian:trixie;
without a SUITE it is "stable".  busybox is Debian's busybox-static with a link for each applet.
Runs on this machine, as root, and needs debootstrap and apt, or busybox-static."""


@command(
    "[OPTIONS] DISTRIBUTION[:SUITE]|busybox", exactly(1),
    text("cache", "Keep what was made in this folder, and take it from there (no network then)"),
    many("components", 'Components of the archive (default "main")', parse=comma_list),
    many("include", "Packages to install as well", parse=comma_list),
    text("keyring", "Check signatures of the mirror by this keyring"),
    text("mirror", "URL of the mirror; that of this machine's apt by default"),
    text("output", "Write a tar archive to a file, instead of an image", short="o"),
    many("packages", "Packages to keep in the image, not installed: apt-get install finds them"
         " without a network", parse=comma_list),
    switch("quiet", "Print the image's ID only", short="q"),
    text("tag", "Name of the image; by default that of the distribution", short="t"),
    text("variant", 'Variant: minbase, buildd, or "-" for more than minbase', default="minbase"),
    more=MORE,
)  # fmt: skip
def bootstrap(session: Session, options: Options) -> None:
    source = _source(options.args[0])
    _fit(source, options)
    if not options.text("output"):
        _same_machine(session)
    with _failures(), _signals(), _archive(source, options) as (file, changes):
        if output := options.text("output"):
            _copy(file, output)
        else:
            _import(session, options, source, file, changes)


def _source(given: str) -> str:
    """What is asked for; Failure for a busybox other than this machine's."""
    name, _, suite = given.partition(":")
    if name != BUSYBOX:
        return given
    if suite not in ("", "latest"):
        raise Failure(f"busybox is this machine's, it has no suites: name the image by -t {given}")
    return BUSYBOX


def _fit(source: str, options: Options) -> None:
    """Failure for a flag that means nothing here."""
    given = [name for name in OF_DEBOOTSTRAP if name in options.given]
    if source == BUSYBOX and given:
        raise Failure(f"--{given[0]} is of distributions: there is nothing to choose in busybox")
    if options.text("output") and options.text("tag"):
        raise Failure("--tag names an image, and --output makes none: give one of them")


def _same_machine(session: Session) -> None:
    """An image of this machine's programs must run where it is imported."""
    from netkit.bootstrap import host

    there = session.engine.get("/version").get("Arch", "")
    if there and there != host.machine():
        raise Failure(f"the engine is on {there}, and this machine makes {host.machine()}")


@contextmanager
def _archive(source: str, options: Options) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The archive, and the Dockerfile lines that belong to its image."""
    if source == BUSYBOX:
        from netkit.bootstrap import busybox

        with tempfile.NamedTemporaryFile(prefix="netkit-busybox.") as file:
            file.write(busybox.rootfs())
            file.flush()
            yield Path(file.name), busybox.CHANGES
        return
    from netkit.bootstrap import debian
    from netkit.bootstrap.request import Request, split

    distribution, suite = split(source)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdecimal():
        raise Failure(f"SOURCE_DATE_EPOCH is {epoch!r}, and must be seconds")
    request = Request(
        distribution=distribution, suite=suite, variant=options.text("variant"),
        include=tuple(options.texts("include")), packages=tuple(options.texts("packages")),
        components=tuple(options.texts("components")) or ("main",), mirror=options.text("mirror"),
        keyring=os.path.abspath(options.text("keyring")) if options.text("keyring") else "",
        epoch=int(epoch) if epoch else None,
    )  # fmt: skip
    cache = options.text("cache")
    quiet = options.flag("quiet")
    where = Path(tempfile.gettempdir())
    with debian.archive(
        request, Path(cache) if cache else None, where,
        say=_quiet if quiet else _say, log=_quiet if quiet else _step,
    ) as path:  # fmt: skip
        yield path, debian.CHANGES


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _step(line: str) -> None:
    """What debootstrap and apt report as steps, and warnings; an error is in the last message."""
    if line.startswith(("I: ", "W: ", "Setting up ")):
        _say(line)


def _quiet(line: str) -> None:
    pass


def _import(
    session: Session, options: Options, source: str, file: Path, changes: tuple[str, ...]
) -> None:
    name, tag = split_tag(options.text("tag") or source)
    query = {
        "fromSrc": "-", "repo": name, "tag": tag or "latest", "changes": list(changes),
        "message": f"netkit image bootstrap {source}",
    }  # fmt: skip
    answer = session.engine.stream("POST", "/images/create", query, _blocks(file))
    progress.show(session.engine.objects(answer))


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while data := source.read(BLOCK):
            yield data


def _copy(file: Path, output: str) -> None:
    from netkit.cli.transfer import store

    store(_blocks(file), output)


@contextmanager
def _signals() -> Iterator[None]:
    """End by SIGTERM and SIGHUP as by Ctrl-C: with everything removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Exit(128 + number)

    before = {n: signal.signal(n, end) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _failures() -> Iterator[None]:
    from netkit.errors import NetkitError

    try:
        yield
    except NetkitError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or 'bootstrap'}: {error.strerror or error}") from error

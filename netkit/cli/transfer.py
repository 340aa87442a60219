"""Tar archives in and out: import, load, save, export."""

from __future__ import annotations

import os
import sys
import tempfile

from netkit.cli import progress
from netkit.cli.commands import Count, at_least, command, exactly
from netkit.cli.flags import Options, many, switch, text
from netkit.cli.images import platform_json
from netkit.cli.references import parsed
from netkit.cli.terminal import STDOUT
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from netkit.cli.session import Session

BLOCK = 1 << 18


@command(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", Count(1, 2),
    many("change", "Apply Dockerfile instruction to the created image", short="c"),
    text("message", "Set commit message for imported image", short="m"),
    text("platform", "Set platform if server is multi-platform capable"),
)  # fmt: skip
def import_(session: Session, options: Options) -> None:
    source, *reference = options.args
    try:
        parsed(reference[0]) if reference and reference[0] else None
    except ValueError as error:
        raise Failure(str(error)) from None
    is_url = source.startswith(("http://", "https://", "ftp://"))
    query = {
        "fromSrc": source if is_url else "-",
        "repo": reference[0] if reference else "",
        "message": options.text("message"),
        "changes": options.texts("change"),
        "platform": options.text("platform"),
    }
    body = None if is_url else _contents(source)
    answer = session.engine.stream("POST", "/images/create", query, body)
    progress.show(session.engine.objects(answer))


@command(
    "[OPTIONS]", Count(),
    text("input", "Read from tar archive file, instead of STDIN", short="i"),
    text("platform", 'Load only the given platform variant ("linux/amd64")'),
    switch("quiet", "Suppress the load output", short="q"),
)  # fmt: skip
def load(session: Session, options: Options) -> None:
    name = options.text("input")
    if not name and sys.stdin.isatty():
        raise Failure("requested load from stdin, but stdin is empty: use -i FILE or a pipe")
    quiet = options.flag("quiet") or not sys.stdout.isatty()
    query: dict[str, object] = {"quiet": "1" if quiet else "0"}
    if platform := options.text("platform"):
        query["platform"] = [platform_json(platform)]
    answer = session.engine.stream("POST", "/images/load", query, _contents(name or "-"))
    progress.show(session.engine.objects(answer))


@command(
    "[OPTIONS] IMAGE [IMAGE...]", at_least(1),
    text("format", 'Layout of the archive: "docker", or "oci" for an OCI image layout'),
    text("output", "Write to a file, instead of STDOUT", short="o"),
    text("platform", 'Save only the given platform variant ("linux/amd64")'),
)  # fmt: skip
def save(session: Session, options: Options) -> None:
    query: dict[str, object] = {"names": list(options.args), "format": options.text("format")}
    if platform := options.text("platform"):
        query["platform"] = [platform_json(platform)]
    _require_target(options, "save")
    answer = session.engine.stream("GET", "/images/get", query)
    store(answer.chunks(), options.text("output"))


@command(
    "[OPTIONS] CONTAINER", exactly(1),
    text("output", "Write to a file, instead of STDOUT", short="o"),
)  # fmt: skip
def export(session: Session, options: Options) -> None:
    _require_target(options, "export")
    answer = session.engine.stream("GET", f"/containers/{options.args[0]}/export")
    store(answer.chunks(), options.text("output"))


def _contents(name: str) -> Iterator[bytes]:
    """The bytes of a file, or of standard input for "-".  Opened now, read later."""
    try:
        file: BinaryIO = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115
    except OSError as error:
        raise Failure(f"open {name}: {(error.strerror or str(error)).lower()}") from None
    return _blocks(file)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while data := os.read(file.fileno(), BLOCK):
            yield data


def _require_target(options: Options, verb: str) -> None:
    name = options.text("output")
    if not name and os.isatty(STDOUT):
        raise Failure(f"cowardly refusing to {verb} to a terminal. Use the -o flag or redirect")
    folder = os.path.dirname(name) or "."
    if name and not os.path.isdir(folder):
        what = "image" if verb == "save" else "container"
        raise Failure(f"failed to {verb} {what}: invalid output path: stat {folder}:"
                      " no such file or directory")  # fmt: skip
    if name and os.path.isdir(name):
        raise Failure(f'invalid output path: "{name}" is a directory')


def store(data: Iterable[bytes], name: str) -> None:
    """To standard output, or whole into a file: one that is cut short never has its name."""
    if not name:
        for block in data:
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    if os.path.exists(name) and not os.path.isfile(name):  # /dev/null, a fifo
        with open(name, "wb") as target:
            target.writelines(data)
        return
    folder, base = os.path.split(os.path.abspath(name))
    fd, temporary = tempfile.mkstemp(prefix=f".{base}.", dir=folder)
    try:
        with os.fdopen(fd, "wb") as target:
            target.writelines(data)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, name)
    except BaseException:
        os.unlink(temporary)
        raise

"""URLs of ADD: download each into a file, and take it for a source."""

from __future__ import annotations

import os
import posixpath
import time
import urllib.parse
from collections.abc import Callable
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

from runtime.build import digests
from runtime.build.download import Download
from runtime.build.errors import BuildFailed, failed
from runtime.build.files import FilesOnDisk
from runtime.build.finding import Found
from runtime.cancellation import Check, unchecked
from runtime.filetree.scoped_root import Root

Report = Callable[[dict[str, object]], None]  # takes an object of the build's JSON stream
_NAMELESS = "__unnamed__"
_FILE = "content"
_PIECE = 1 << 18
_PAUSE = 0.1  # seconds between reports


def fetch(
    url: str, folder: Path, into_folder: bool, report: Report, check: Check = unchecked
) -> Found:
    """Download a URL into the empty directory `folder`.  BuildFailed, and as `Download`.

    `into_folder`: the destination is one, so that the file needs a name.  Its time is the server's
    Last-Modified, else 1970; its mode 0600.
    """
    with Download(url, check) as body:
        name = _name(url, body.header("Content-Disposition"))
        if not name and into_folder:
            raise BuildFailed(f"cannot determine filename for source {url}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(folder / _FILE, flags, 0o600), "wb", buffering=0) as file:
            try:
                _store(body, file.fileno(), report)
            except OSError as error:
                raise failed("write", url, error) from error
            modified = _modified(body.header("Last-Modified"))
            os.utime(file.fileno(), (modified, modified))
    report({"stream": "\n"})  # dockerd's, as the corpus has it
    return _found(folder, name or _NAMELESS)


def _found(folder: Path, name: str) -> Found:
    root = Root(folder)
    try:
        digest = digests.of_file(root.fd, _FILE, name)
    except BaseException:
        root.close()
        raise
    return Found(files=FilesOnDisk(root), path=f"/{_FILE}", name=name, digest=digest, is_url=True)


def _store(body: Download, fd: int, report: Report) -> None:
    got, reported = 0, time.monotonic()
    while data := body.read(_PIECE):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        got += len(data)
        if time.monotonic() - reported > _PAUSE:
            reported = time.monotonic()
            report(_progress(got, max(body.size, 0)))
    report(_progress(got, max(body.size, got)))


def _progress(got: int, size: int) -> dict[str, object]:
    detail = {"current": got, "total": size} if got or size else {}
    return {"status": "Downloading", "progressDetail": detail}


def _name(url: str, disposition: str) -> str:
    """The file's name: the URL's last part, else the server's; "" if there is none."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path, errors="surrogateescape")
    message = Message()
    message["Content-Disposition"] = disposition
    said = message.get_filename("") if disposition else ""
    for given in (path, said):
        name = posixpath.basename(given) if given and not given.endswith("/") else ""
        if name not in {"", ".", ".."} and "\0" not in name:
            return name
    return ""


def _modified(text: str) -> float:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp()) if text else 0.0
    except (ValueError, OverflowError):
        return 0.0

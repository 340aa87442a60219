"""Fetch a build context that a request names instead of sending it (`remote=`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from netkit.errors import InvalidSpec, NetkitError
from runtime import limits
from runtime.build.added import Report
from runtime.build.context import BuildContext, alone, new_home, opened, receive
from runtime.build.download import Download, is_url
from runtime.build.errors import BuildFailed
from runtime.build.git import check_out, is_git_url
from runtime.filetree.remove import remove_tree
from runtime.undo import Undo

_ARCHIVE = re.compile(r"application/(?:(?:x-)?tar|octet-stream|(?:x-)?(?:gzip|bzip2?|xz))")
_PREAMBLE = 100  # bytes that dockerd looks at
_PIECE = 1 << 20


def fetch(
    remote: str, folder: Path, *, dockerfile: str, report: Report, check: Callable[[], None]
) -> BuildContext:
    """Fetch the context from `remote`: http(s) of a tar or a Dockerfile, or a git repository.

    `check` is called now and then, and may raise to end it.  Errors as for `receive`.
    """
    if is_git_url(remote):
        return _of_repository(remote, folder, dockerfile, check)
    if not is_url(remote):
        raise BuildFailed(f"remoteURL ({remote}) could not be recognized as URL")
    try:
        body = Download(remote, check)
    except NetkitError as error:
        raise type(error)(f"error downloading remote context {remote}: {error}") from error
    with body:
        stream = _Reported(body, report, check)
        head = stream.read(_PREAMBLE)
        if _kind(remote, body.header("Content-Type"), head) == "text/plain":
            return alone(_text(head, stream), folder)
        return receive(_Joined(head, stream), folder, dockerfile=dockerfile)


def _of_repository(
    remote: str, folder: Path, dockerfile: str, check: Callable[[], None]
) -> BuildContext:
    with Undo() as undo:
        home = new_home(folder)
        undo.push(remove_tree, home)
        check_out(remote, home, check)
        return opened(home, dockerfile)


def _kind(remote: str, said: str, head: bytes) -> str:
    """The type of the content: what the server says, or looks for itself if that says nothing."""
    where = f"error detecting content type for remote {remote}"
    if not head:
        raise BuildFailed(f"{where}: empty response")
    kind = said.partition(";")[0].strip().lower()
    if kind in {"", "application/octet-stream"}:
        kind = "text/plain" if _is_text(head) else "application/octet-stream"
    if kind != "text/plain" and not _ARCHIVE.fullmatch(kind):
        raise BuildFailed(f'{where}: unsupported Content-Type "{said}"')
    return kind


def _is_text(head: bytes) -> bool:
    """No control characters but blanks and ends of lines, as Go's http.DetectContentType has it."""
    return not any(b < 0x20 and b not in b"\t\n\x0c\r\x1b" for b in head)


def _text(head: bytes, stream: _Reported) -> bytes:
    text = head
    while more := stream.read(_PIECE):
        text += more
        if len(text) > limits.DOCKERFILE_BYTES:
            raise InvalidSpec(f"the Dockerfile is over {limits.DOCKERFILE_BYTES} bytes: refused")
    return text


class _Reported:
    """The body, read with progress."""

    def __init__(self, body: Download, report: Report, check: Callable[[], None]) -> None:
        self._body, self._report, self._check = body, report, check
        self._got = self._told = 0

    def read(self, size: int = -1, /) -> bytes:
        self._check()
        data = self._body.read(size)
        self._got += len(data)
        if self._got - self._told >= _PIECE or (not data and self._got > self._told):
            self._told = self._got
            self._report({
                "status": f"Downloading build context from remote url: {self._body.url}",
                "progressDetail": {"current": self._got, "total": max(self._body.size, self._got)},
            })  # fmt: skip
        return data


class _Joined:
    def __init__(self, head: bytes, rest: _Reported) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1, /) -> bytes:
        data, self._head = self._head[:size], self._head[size:]
        return data or self._rest.read(size)

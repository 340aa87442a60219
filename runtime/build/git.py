"""Build contexts from git repositories, by the git program.

It gets no configuration, no terminal and no local protocol, a time limit, and a bound on each file.
A submodule comes by the network only, too.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netkit.gone import if_there
from runtime import limits
from runtime.build.errors import BuildFailed
from runtime.build.scope import is_folder, outside, resolve
from runtime.filetree.scoped_root import Root

_URL = re.compile(r"https?://.*\.git(?:#.+)?", re.DOTALL)
_PREFIXES = ("git://", "github.com/", "git@")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_SCHEMES = ("git://", "git@", "http://", "https://", "ssh://")
_SAID = 4096  # bytes of what git says that are shown
_LOOK = 0.2  # seconds between looks whether the client is still there
_SETTINGS = ("-c", "protocol.file.allow=never", "-c", "core.hooksPath=/dev/null")
_PASSED = ("PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def is_git_url(text: str) -> bool:
    return bool(_URL.fullmatch(text)) or text.startswith(_PREFIXES)


@dataclass(frozen=True, slots=True)
class Repository:
    """A URL of the form REPOSITORY#REF:FOLDER, both optional."""

    remote: str
    ref: str
    folder: str


def parse(text: str) -> Repository:
    """BuildFailed for a reference that git would take for an option."""
    remote, _, fragment = text.partition("#")
    ref, _, folder = fragment.partition(":")
    if ref.startswith("-"):
        raise BuildFailed(f"invalid refspec: {ref}")
    if not remote.startswith(_SCHEMES):
        remote = f"https://{remote}"
    return Repository(remote, ref or "HEAD", folder)


def check_out(text: str, home: Path, still_wanted: Callable[[], None]) -> None:
    """Put the tree that the URL names at home/tree.  BuildFailed with what git said.

    `still_wanted` is called now and then, and may raise to end it.
    """
    repository = parse(text)
    clone = home / "clone"
    clone.mkdir(mode=0o755)
    git = _Git(clone, home, still_wanted)
    git.run("failed to init repo", "init", "--quiet")
    git.run("failed to add origin", "remote", "add", "origin", repository.remote)
    _fetch(git, repository.ref)
    git.run(f"error checking out {repository.ref}", "checkout", "--quiet", "FETCH_HEAD")
    submodules = ("submodule", "update", "--init", "--recursive", "--depth=1")
    git.run("error initializing submodules", *submodules)
    with Root(clone) as root:
        (clone / _folder(root, repository.folder)).rename(home / "tree")


def _fetch(git: _Git, ref: str) -> None:
    try:
        git.run("error fetching", "fetch", "--quiet", "--depth", "1", "origin", ref)
        return
    except BuildFailed as error:
        refused = error
    # Plain web servers know no depth; others refuse a commit that no name leads to.
    try:
        if _COMMIT.fullmatch(ref):
            git.run("error fetching", "fetch", "--quiet", "origin")
            git.run("error fetching", "update-ref", "FETCH_HEAD", ref)
        else:
            git.run("error fetching", "fetch", "--quiet", "origin", ref)
    except BuildFailed:
        raise refused from None


def _folder(root: Root, folder: str) -> str:
    """Path of the folder below the repository, links followed inside it."""
    if not outside(folder.lstrip("/")):
        with if_there():
            path = resolve(root, folder)
            if is_folder(root, path):
                return path.lstrip("/")
    raise BuildFailed(f"error setting git context, not a directory: {folder}")


class _Git:
    def __init__(self, folder: Path, home: Path, still_wanted: Callable[[], None]) -> None:
        self._folder = folder
        self._still_wanted = still_wanted
        self._deadline = time.monotonic() + limits.REMOTE_SECONDS
        self._log = home / "git.log"
        self._environment = {
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
            "HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        }

    def run(self, what: str, *arguments: str) -> None:
        with open(self._log, "wb") as log:
            try:
                process = subprocess.Popen(
                    ["git", *_SETTINGS, *arguments],
                    cwd=self._folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise BuildFailed("a build from a git repository needs git: install it") from None
        try:
            self._wait(process)
        finally:
            with suppress(ProcessLookupError):  # git, and what it started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            raise BuildFailed(f"{what}: {self._said()}: exit status {process.returncode}")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            most = limits.REMOTE_BYTES
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        while time.monotonic() < self._deadline:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
                return
            self._still_wanted()
        raise BuildFailed(f"git: not done after {limits.REMOTE_SECONDS} s")

    def _said(self) -> str:
        with open(self._log, "rb") as log:
            return log.read(_SAID).decode(errors="replace").strip()

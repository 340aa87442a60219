"""Credentials for registries in Docker's config.json, and in the credential helpers it names.

https://docs.docker.com/reference/cli/docker/login/#credential-stores: a helper is a program
docker-credential-NAME with the commands get, store and erase.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from pathlib import Path

from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"  # Docker's key for it
_TOKEN_USER = "<token>"  # of a helper: the secret is an identity token
_BYTES = 4 << 20  # of config.json


class Unusable(Exception):
    """The file or the helper cannot be used; the text says why."""


class Credentials(Value):
    __slots__ = ("identity_token", "password", "username")

    def __init__(self, username: str = "", password: str = "", identity_token: str = "") -> None:
        self.username: Final = username
        self.password: Final = password
        self.identity_token: Final = identity_token

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"  # which may be logged


def key(registry: str) -> str:
    """The key of a registry HOST[:PORT], as docker login writes it."""
    host = hostname(registry)
    return HUB_KEY if host in {HUB, "index.docker.io", "registry-1.docker.io"} else host


def hostname(text: str) -> str:
    """HOST[:PORT] of a key, which may be a URL."""
    return re.sub(r"\Ahttps?://", "", text).partition("/")[0]


class DockerConfig:
    """One config.json.  `seconds`: a helper may take so long."""

    def __init__(self, path: Path, seconds: float = 60) -> None:
        self.path = path
        self._seconds = seconds

    def get(self, registry: str) -> Credentials | None:
        """Those for HOST[:PORT]; None if there are none.  Unusable."""
        document = self._read()
        wanted = key(registry)
        if helper := _helper(document, wanted):
            return self._ask(helper, wanted)
        auths = document.get("auths")
        entries = auths if isinstance(auths, dict) else {}
        for name in (wanted, *(n for n in entries if key(n) == wanted)):
            entry = entries.get(name)
            if isinstance(entry, dict) and (found := _decoded(entry)):
                return found
        return None

    def store(self, registry: str, given: Credentials) -> str:
        """Keep credentials; the file, if they are unencrypted in it, else "".  Unusable."""
        document, wanted = self._read(), key(registry)
        if helper := _helper(document, wanted):
            user = _TOKEN_USER if given.identity_token else given.username
            secret = given.identity_token or given.password
            text = json.dumps({"ServerURL": wanted, "Username": user, "Secret": secret})
            self._run(helper, "store", text)
            document.setdefault("auths", {})[wanted] = {}
            self._write(document)
            return ""
        pair = f"{given.username}:{'' if given.identity_token else given.password}"
        entry = {"auth": base64.b64encode(pair.encode()).decode()}
        if given.identity_token:
            entry["identitytoken"] = given.identity_token
        document.setdefault("auths", {})[wanted] = entry
        self._write(document)
        return str(self.path)

    def erase(self, registry: str) -> bool:
        """Forget credentials; were there any?  Unusable."""
        document, wanted = self._read(), key(registry)
        auths = document.get("auths")
        entries = auths if isinstance(auths, dict) else {}
        mine = [name for name in entries if key(name) == wanted]
        helper = _helper(document, wanted)
        had = bool(mine) or bool(helper and self._ask(helper, wanted))
        if helper and had:
            self._run(helper, "erase", wanted)
        for name in mine:
            del entries[name]
        if mine:
            self._write(document)
        return had

    def all(self) -> dict[str, Credentials]:
        """Those for every registry that the file names, by its key."""
        document = self._read()
        auths, helpers = document.get("auths"), document.get("credHelpers")
        names = [
            *(auths if isinstance(auths, dict) else ()),
            *(helpers if isinstance(helpers, dict) else ()),
        ]
        found = {key(name): self.get(name) for name in dict.fromkeys(names)}
        return {name: each for name, each in found.items() if each}

    # the file

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                raw = file.read(_BYTES + 1)
            document = json.loads(raw) if raw.strip() else {}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Unusable(f"cannot read {self.path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise Unusable(f"{self.path} is not JSON: {error}") from None
        if not isinstance(document, dict) or len(raw) > _BYTES:
            raise Unusable(f"{self.path} must hold one JSON object of {_BYTES} bytes at most")
        return document

    def _write(self, document: dict[str, Any]) -> None:
        """Whole or not at all, readable by its owner only; what a link leads to is replaced."""
        import tempfile

        target = Path(os.path.realpath(self.path))
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd, temporary = tempfile.mkstemp(prefix=".config.json.", dir=target.parent)
            try:
                with os.fdopen(fd, "w") as file:
                    file.write(json.dumps(document, indent="\t"))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise Unusable(f"cannot write {self.path}: {error.strerror}") from None

    # helpers

    def _ask(self, helper: str, server: str) -> Credentials | None:
        answer = self._run(helper, "get", server)
        if answer is None:
            return None
        try:
            found = json.loads(answer)
            user, secret = str(found["Username"]), str(found["Secret"])
        except (ValueError, KeyError, TypeError):
            raise Unusable(f"docker-credential-{helper} gives no credentials") from None
        if user == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(user, secret)

    def _run(self, helper: str, verb: str, text: str) -> bytes | None:
        """Output of a helper; None if it has nothing for that server."""
        import subprocess

        program = f"docker-credential-{helper}"
        if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
            raise Unusable(f"{self.path}: {helper[:60]!r} is no name of a credential helper")
        try:
            done = subprocess.run(
                [program, verb], input=text.encode(), capture_output=True, check=False,
                timeout=self._seconds,
            )  # fmt: skip
        except FileNotFoundError:
            raise Unusable(f"{program} is not in PATH, and {self.path} names it") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unusable(f"{program} {verb}: {error}") from None
        output = done.stdout[: 1 << 16]
        if done.returncode == 0:
            return output
        if b"credentials not found" in output:
            return None
        shown = (output or done.stderr).decode(errors="replace").strip()[:300]
        raise Unusable(f"{program} {verb}: {shown or f'exit status {done.returncode}'}")


def _helper(document: dict[str, Any], wanted: str) -> str:
    """Name of the helper for a registry, "" for the file itself."""
    helpers = document.get("credHelpers")
    for name, helper in helpers.items() if isinstance(helpers, dict) else ():
        if key(name) == wanted:
            return str(helper)
    return str(document.get("credsStore") or "")


def _decoded(entry: dict[str, Any]) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if text := entry.get("auth"):
        try:
            pair = base64.b64decode(str(text), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, _, password = pair.partition(":")
    if token:
        return Credentials(user, "", token)
    return Credentials(user, password.strip("\0")) if user else None

"""Credentials that clients send, and those the daemon has itself."""

from __future__ import annotations

import base64
import binascii
import logging
from pathlib import Path
from typing import Any

import msgspec

from netkit.client.credentials import DockerConfig, Unusable, key
from netkit.errors import InvalidSpec
from runtime import untrusted
from runtime.images.pulling import Login, Logins

log = logging.getLogger("netkit.registry")
_SECONDS = 10  # for a credential helper of the daemon's


class AuthBody(msgspec.Struct):
    """Docker's AuthConfig."""

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


def of_header(text: str) -> Logins:
    """X-Registry-Auth: credentials for whatever registry the request is about.

    What cannot be decoded is an error for a login, and no credentials here, as in dockerd.
    """
    if not text:
        return lambda registry: None
    try:
        login = _login(_decoded(text))
    except InvalidSpec:
        login = None
    return lambda registry: login


def of_config(text: str) -> Logins:
    """X-Registry-Config of builds: credentials by the registry's name."""
    try:
        document = _decoded(text) if text else {}
    except InvalidSpec:
        document = {}
    entries = document if isinstance(document, dict) else {}

    def find(registry: str) -> Login | None:
        for name, entry in entries.items():
            if key(str(name)) == key(registry):
                return _login(entry)
        return None

    return find


def of_body(body: AuthBody) -> Login:
    """The body of POST /auth.  InvalidSpec."""
    login = _checked(body)
    if login is None:
        raise InvalidSpec("login needs username and password, or an identity token")
    return login


def _decoded(text: str) -> object:
    try:
        raw = base64.b64decode(text.strip() + "=" * (-len(text.strip()) % 4), altchars=b"-_")
    except (binascii.Error, ValueError) as error:
        raise InvalidSpec(f"the credentials are not base64: {error}") from error
    return untrusted.decode(raw, "the credentials", " are not JSON")


def _login(document: Any) -> Login | None:
    try:
        found = msgspec.convert(document, AuthBody)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"the credentials are malformed: {error}") from error
    return _checked(found)


def _checked(found: AuthBody) -> Login | None:
    user, password = found.username or "", found.password or ""
    if not user and found.auth:
        try:
            user, _, password = base64.b64decode(found.auth).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidSpec("the credentials are malformed: auth is not base64") from None
    token, registry = found.identitytoken or "", found.registrytoken or ""
    if not (user or token or registry):
        return None
    for name, value in (("token", token), ("token", registry)):
        if not value.isascii() or not value.isprintable():
            raise InvalidSpec(f"the credentials are malformed: a {name} has odd characters")
    return Login(
        username=user, password=password, identity_token=token, registry_token=registry,
        server=found.serveraddress or "",
    )  # fmt: skip


def own_login(path: Path, registry: str) -> Login | None:
    """The daemon's own, from a file in the format of Docker's config.json; logged if unusable."""
    if not path.exists():
        return None
    try:
        found = DockerConfig(path, _SECONDS).get(registry)
    except Unusable as error:
        log.warning("no credentials for %s: %s", registry, error)
        return None
    if found is None:
        return None
    return Login(
        username=found.username, password=found.password, identity_token=found.identity_token
    )

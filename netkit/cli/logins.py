"""What the command line knows of passwords for registries, and the headers that carry them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from netkit.cli.commands import complain
from netkit.cli.references import HUB, full_name
from netkit.client.credentials import HUB_KEY, Credentials, DockerConfig, Unusable, key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def docker_config() -> DockerConfig:
    """Docker's own file: a user who is logged in with docker is logged in here."""
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    return DockerConfig(Path(folder) / "config.json")


def registry_of(image: str) -> str:
    """HOST[:PORT] of an image's name, "docker.io" for those without."""
    return full_name(image).partition("/")[0] or HUB


def for_image(image: str) -> Mapping[str, str]:
    """Headers of a pull or push: the credentials for that image's registry, if there are any."""
    registry = registry_of(image)
    try:
        found = docker_config().get(registry)
    except Unusable as error:
        complain(f"WARNING: no credentials for {registry}: {error}")
        found = None
    return {"X-Registry-Auth": _encoded(_auth(found, registry) if found else {})}


def for_build() -> Mapping[str, str]:
    """Headers of a build: all credentials, since a Dockerfile may name any registry."""
    try:
        found = docker_config().all()
    except Unusable as error:
        complain(f"WARNING: builds go without credentials: {error}")
        found = {}
    auths = {name: _auth(each, name) for name, each in found.items()}
    return {"X-Registry-Config": _encoded(auths)}


def _auth(given: Credentials, registry: str) -> dict[str, str]:
    server = key(registry)
    if given.identity_token:
        return {"identitytoken": given.identity_token, "serveraddress": server}
    return {"username": given.username, "password": given.password, "serveraddress": server}


def _encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def shown(registry: str) -> str:
    """As docker's messages name a registry."""
    return HUB_KEY if key(registry) == HUB_KEY else registry

"""Protocol of what brings images from registries, for those that need one: create, build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.cancellation import Cancel
from runtime.images.reference import Reference

Progress = Callable[[dict[str, Any]], None]  # takes one object of the API's progress stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Credentials for one registry, as clients send them (X-Registry-Auth)."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # for a token server
    registry_token: str = field(default="", repr=False)  # sent to the registry as it is
    server: str = ""  # as the client names the registry


Logins = Callable[[str], Login | None]  # by the registry's host; "docker.io" for Docker's


def no_logins(registry: str) -> Login | None:
    return None


def quiet(message: dict[str, Any]) -> None:
    """A Progress that is discarded."""


class Puller(Protocol):
    """Implemented by runtime.registry.service.RegistryService."""

    def pull(
        self,
        name: Reference,
        *,
        platform: str = "",
        logins: Logins = no_logins,
        progress: Progress = quiet,
        cancel: Cancel | None = None,
    ) -> str:
        """Pull one image by tag ("latest" if there is none) or digest; its id.

        `platform` is os[/arch[/variant]], "" for this host's.  Blocks; calls `progress` from
        several threads.  NotFound if the registry has it not or denies it, with the text that
        Docker shows; other NetkitErrors; Cancelled.  Nothing is left of a pull that fails.
        """
        ...

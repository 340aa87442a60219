"""What a client asks of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.container.config import HostConfig
from runtime.images.pulling import Logins, no_logins
from runtime.images.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    dockerfile: str = "Dockerfile"
    build_id: str = ""  # by which the client may cancel it
    remote: str = ""  # a URL to fetch the context from; "" if the client sends it
    names: tuple[Reference, ...] = ()
    target: str = ""
    platform: str = ""  # of images that are pulled; "" for this host's
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cache: bool = True
    cache_from: tuple[str, ...] = ()
    pull: bool = False  # base images anew, although they are here
    quiet: bool = False  # print the image's id alone
    remove: bool = True  # containers of steps that succeeded
    force_remove: bool = False  # those of all steps
    host_config: HostConfig = field(default_factory=HostConfig)  # of the containers of RUN
    logins: Logins = no_logins

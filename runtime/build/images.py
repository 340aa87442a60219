"""Images that a build begins with or copies from: here, or pulled."""

from __future__ import annotations

import re

from netkit.errors import InvalidSpec, NotFound
from runtime.build.output import Section
from runtime.build.request import BuildRequest
from runtime.cancellation import Cancel
from runtime.images import reference
from runtime.images.holds import Hold
from runtime.images.model import Image
from runtime.images.pulling import Puller
from runtime.images.store import ImageStore

SCRATCH = "scratch"
_SYSTEMS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd",
    "openbsd", "plan9", "solaris", "windows",
})  # fmt: skip
_ARCHITECTURES = frozenset({
    "386", "amd64", "arm", "arm64", "armhf", "armel", "aarch64", "x86_64", "x86-64", "i386",
    "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
})  # fmt: skip
_COMPONENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def check_platform(text: str) -> str:
    """The platform as a registry is asked for it.  InvalidSpec in containerd's words."""
    parts = text.split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise InvalidSpec(
                f'"{part[:100]}" is an invalid component of "{text[:100]}": platform specifier '
                'component must match "^[A-Za-z0-9_-]+$": invalid argument'
            )
    words = [part.lower() for part in parts]
    if len(words) > 3:
        raise InvalidSpec(f'"{text[:100]}": cannot parse platform specifier: invalid argument')
    if len(words) == 1:
        if words[0] in _SYSTEMS:
            return words[0]
        if words[0] in _ARCHITECTURES:
            return f"linux/{words[0]}"
        raise InvalidSpec(
            f'"{text[:100]}": unknown operating system or architecture: invalid argument'
        )
    return "/".join(words)


class BaseImages:
    """Images by name for one build; what was pulled for it is not pulled again."""

    def __init__(
        self, images: ImageStore, puller: Puller, request: BuildRequest, hold: Hold, cancel: Cancel
    ) -> None:
        """`hold`: of the build; what it gets is not removed while it runs."""
        self._images, self._puller, self._hold = images, puller, hold
        self._request, self._cancel = request, cancel
        self._pulled: dict[str, str] = {}  # ids by name

    def get(self, name: str, section: Section, platform: str = "") -> Image:
        """The image; pulled if it is not here, or if the client wants base images pulled.

        InvalidSpec for what is no name; what the registry says.
        """
        if name in self._pulled:
            return self._images.find(self._pulled[name])
        if not self._request.pull and (found := self.local(name)) is not None:
            return found
        ref = reference.parse(name)
        id = self._puller.pull(
            ref,
            platform=platform or self._request.platform,
            logins=self._request.logins,
            progress=section.message,
            cancel=self._cancel,
        )
        self._hold.keep(id)
        self._pulled[name] = id
        return self._images.find(id)

    def local(self, name: str) -> Image | None:
        try:
            found = self._images.find(name)
            self._hold.keep(found.id)
        except (NotFound, InvalidSpec):
            return None
        return found

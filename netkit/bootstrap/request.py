"""What is to be bootstrapped, as a value: read from words, checked, named for a cache.  Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit, urlunsplit

from netkit.errors import InvalidSpec
from netkit.suggestion import hint

BUSYBOX = "busybox"
VARIANTS = ("minbase", "buildd", "-")  # "-": what debootstrap does without --variant
SCHEMES = frozenset({"http", "https", "ftp", "file"})
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
COMPONENT = re.compile(r"[a-z][a-z0-9./-]*")
RECIPE = 2  # one more whenever the same request makes another tree
_KEYRING = re.compile(r"^\s*keyring\s+/usr/share/keyrings/([a-z]+)-archive-keyring", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A suite of a distribution with some packages; checked() sorts them: order means nothing."""

    distribution: str  # debian, ubuntu ...
    suite: str
    variant: str = "minbase"
    include: tuple[str, ...] = ()  # installed
    packages: tuple[str, ...] = ()  # kept in the image, for `apt-get install` without a network
    components: tuple[str, ...] = ("main",)
    mirror: str = ""  # the host's own by default
    keyring: str = ""  # debootstrap's by default
    epoch: int | None = None  # seconds; no file is newer.  None: when the suite was released

    def key(self, architecture: str) -> str:
        """Equal for requests that make the same tree, from what a mirror had when it was made."""
        facts = {**asdict(self), "architecture": architecture, "recipe": RECIPE}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{self.distribution}-{self.suite}-{digest[:16]}"


def split(reference: str) -> tuple[str, str]:
    """ "debian:bookworm" as ("debian", "bookworm"); without a suite, or with latest, "stable"."""
    name, _, suite = reference.partition(":")
    if not re.fullmatch(r"[a-z]+", name) or not re.fullmatch(r"[a-z0-9.-]*", suite):
        raise InvalidSpec(f"{reference!r} is no DISTRIBUTION:SUITE, as in debian:bookworm")
    return name, "stable" if suite in ("", "latest") else suite


def checked(request: Request, scripts: Mapping[str, str]) -> Request:
    """The request, its lists sorted; InvalidSpec says what is wrong.

    `scripts` are debootstrap's: name of the suite to text.
    """
    text = scripts.get(request.suite)
    if text is None:
        near = hint(request.suite, scripts)
        raise InvalidSpec(f"debootstrap here knows no suite {request.suite!r}{near}")
    found = _KEYRING.search(text)
    if found and found[1] != request.distribution:
        raise InvalidSpec(
            f"{request.suite} is a suite of {found[1]}: say {found[1]}:{request.suite}"
        )
    if request.variant not in VARIANTS:
        raise InvalidSpec(f"unknown variant {request.variant!r}: there is {', '.join(VARIANTS)}")
    _each(request.include, PACKAGE, "name of a package")
    _each(request.packages, PACKAGE, "name of a package")
    _each(request.components, COMPONENT, "component")
    if request.mirror and urlsplit(request.mirror).scheme not in SCHEMES:
        raise InvalidSpec(f"mirror {request.mirror!r} is no URL with {', '.join(sorted(SCHEMES))}")
    if re.search(r"\s", request.mirror):
        raise InvalidSpec(f"mirror {request.mirror!r} has a blank in it")
    values = {name: getattr(request, name) for name in request.__slots__}
    for name in ("include", "packages"):
        values[name] = tuple(sorted(set(values[name])))
    return Request(**values)


def _each(words: Sequence[str], pattern: re.Pattern[str], what: str) -> None:
    for word in words:
        if not pattern.fullmatch(word):
            raise InvalidSpec(f"{word!r} is no {what}")


def without_password(url: str) -> str:
    """A URL as it may stand in an image that others get."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

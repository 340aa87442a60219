"""Volume: the document that is stored."""

from __future__ import annotations

import msgspec

DRIVER = "local"  # Docker's name of the one driver there is
ANONYMOUS = "com.docker.volume.anonymous"  # dockerd's label of a volume without a name of its own


class Volume(msgspec.Struct, kw_only=True, frozen=True):
    """Stored as JSON under its name.  `labels` and `options` None: none were given."""

    name: str
    created: str  # RFC 3339, UTC
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None  # type, o, device
    unnamed: bool = False  # its name was generated
    made_for: str = ""  # id of the container whose creation made it
    leaving: bool = False  # it is being removed: a start of the daemon completes that

    @property
    def anonymous(self) -> bool:
        return self.unnamed or ANONYMOUS in (self.labels or {})

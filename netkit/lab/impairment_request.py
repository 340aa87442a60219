"""A request to change the impairments of links.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netkit.errors import InvalidSpec
from netkit.model.impairment import PERFECT, Impairment, given, values

DOWN = Impairment(down=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpairmentRequest:
    """A change of links: fields by name, as a user wrote them; what is not given stays."""

    values: Mapping[str, str]
    down: bool | None = None
    clear: bool = False
    source: str = ""  # the host whose packets are meant; "": all
    seed: int | None = None

    def __bool__(self) -> bool:
        return bool(self.values) or self.down is not None or self.clear or self.seed is not None

    def of(self, before: Impairment) -> Impairment:
        """InvalidSpec where the result makes no sense."""
        if self.down:
            if self.values:
                raise InvalidSpec("down lets nothing pass: leave out the rest")
            return DOWN
        old = PERFECT if self.clear or before.down else before
        return given({**values(old), **self.values})

"""Values for what is imported at each start of the command line.

By hand, because `dataclasses` takes 14 ms of CPU time to import where an empty Python takes 10, by
way of `inspect`, and then compiles the methods of each class anew at each start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Value:
    """Equal to another of its class whose attributes, all in `__slots__`, are equal.

    A subclass assigns them in `__init__`, as `Final`, and they are not assigned again.
    """

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, each) == getattr(other, each) for each in self.__slots__)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, each) for each in self.__slots__)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{each}={getattr(self, each)!r}" for each in self.__slots__)
        return f"{type(self).__name__}({shown})"

    def replaced(self, **changes: object) -> Self:
        """Return a copy with other values of some attributes, which must exist."""
        parts: dict[str, object] = {each: getattr(self, each) for each in self.__slots__}
        assert changes.keys() <= parts.keys(), f"{type(self).__name__} has no such attribute"
        return type(self)(**{**parts, **changes})

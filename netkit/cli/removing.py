"""Remove objects by name, one after another."""

from __future__ import annotations

from netkit.cli.commands import complain
from netkit.client.failure import Failure, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def printed(name: str) -> None:
    print(name, flush=True)


def each(
    names: Iterable[str], remove: Callable[[str], object], *, absent: bool,
    done: Callable[[str], object] = printed,
) -> int:  # fmt: skip
    """The exit code; `done` prints the names of those removed, errors are on standard error.

    `absent`: what is not there is passed over in silence.
    """
    failed = 0
    for name in names:
        try:
            remove(name)
            done(name)
        except Failure as failure:
            if absent and isinstance(failure, Refused) and failure.status == 404:
                continue
            complain(str(failure))
            failed = 1
    return failed

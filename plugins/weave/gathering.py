"""Several commands of one call: each is done or refused by itself, and what was done is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from netkit.errors import NetkitError
from plugins.weave.step import Step

Outcome = tuple[Step, NetkitError | None]


def gathered(commands: Iterable[Callable[[], Step]]) -> Outcome:
    """All of them in turn; the first error, after which the others were done all the same."""
    steps: list[Step] = []
    errors: list[NetkitError] = []
    for command in commands:
        try:
            steps.append(command())
        except NetkitError as e:
            errors.append(e)
    whole = Step(
        tuple(change for step in steps for change in step.persist),
        tuple(send for step in steps for send in step.send),
        tuple(event for step in steps for event in step.events),
    )
    if len(errors) > 1:
        errors[0] = type(errors[0])(f"{errors[0]}; and {len(errors) - 1} more were refused")
    return whole, errors[0] if errors else None

"""When a process that does not answer is taken for one that hangs, and killed.

Two calls in a row, each of which waited for `netkit.overlay.client.ANSWER`, 10 seconds, by a clock
that stands still while the machine sleeps (time.monotonic(), CLOCK_MONOTONIC).  The longest step
that was measured, a host's thousand containers at once, takes less than one second, so 20 of them
are no load.  Nor is it netkitd that was stopped itself: then a call is over whose answer is there,
and the next one has it.

What is killed and hangs again may need the time: after each kill twice as many calls are waited
for, up to MOST (some five minutes), until the process has answered for CALM seconds.
"""

from __future__ import annotations

FIRST, MOST = 2, 32  # calls in a row without an answer
CALM = 600.0  # seconds


class Liveness:
    """Times are those of time.monotonic()."""

    def __init__(self) -> None:
        self._patience = FIRST
        self._unanswered = 0  # calls in a row
        self._calm_from = float("-inf")  # when the process is no more what was killed

    def answered(self, at: float) -> None:
        self._unanswered = 0
        if at >= self._calm_from:
            self._patience = FIRST

    def unanswered(self) -> bool:
        """After a call that waited for ANSWER: whether the process is to be killed."""
        self._unanswered += 1
        return self._unanswered >= self._patience

    def killed(self, at: float) -> None:
        self._unanswered = 0
        self._patience = min(self._patience * 2, MOST)
        self._calm_from = at + CALM

"""Decide whether an exited container is restarted, and after which delay.  Pure."""

from __future__ import annotations

from netkit.errors import InvalidSpec
from runtime.container.config import RestartPolicy

FIRST_DELAY = 0.1  # seconds; doubled at each failure in a row
LONGEST_DELAY = 60.0
RESET_AFTER = 10.0  # seconds of running after which the delay is reset

POLICIES = ("", "no", "always", "unless-stopped", "on-failure")


def check(policy: RestartPolicy, auto_remove: bool) -> None:
    """Validate a restart policy.  InvalidSpec in Docker's words."""
    name, count = policy.name, policy.maximum_retry_count
    if name not in POLICIES:
        raise InvalidSpec(f"invalid restart policy: unknown policy '{name}'; use one of "
                          "'no', 'always', 'on-failure' or 'unless-stopped'")  # fmt: skip
    if count < 0:
        raise InvalidSpec("invalid restart policy: maximum retry count cannot be negative")
    if count and name != "on-failure":
        raise InvalidSpec(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if auto_remove and name not in {"", "no"}:
        raise InvalidSpec("can't create 'AutoRemove' container with restart policy")


def should_restart(policy: RestartPolicy, *, exit_code: int, stopped: bool, count: int) -> bool:
    """Restart after an exit?  `stopped`: by a user; `count`: restarts in a row so far."""
    if stopped:
        return False
    if policy.name in {"always", "unless-stopped"}:
        return True
    if policy.name == "on-failure" and exit_code != 0:
        return policy.maximum_retry_count == 0 or count < policy.maximum_retry_count
    return False


def next_delay(previous: float, ran: float) -> float:
    """Seconds to wait, given the delay before this run and the seconds it ran."""
    if previous == 0 or ran >= RESET_AFTER:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)


def should_start_at_boot(
    policy: RestartPolicy, *, was_running: bool, stopped: bool, exit_code: int
) -> bool:
    """Start a container that does not run when the daemon starts?"""
    if policy.name == "always":  # as Docker: also one that a user had stopped
        return was_running or stopped
    if policy.name == "unless-stopped":
        return not stopped
    return policy.name == "on-failure" and was_running and exit_code != 0

"""Format durations and states as `docker ps` does.  Pure."""

from __future__ import annotations

from netkit.timestamps import epoch_ns
from runtime.container.model import ZERO_TIME, State


def duration(seconds: float) -> str:
    """Format a duration as units.HumanDuration of github.com/docker/go-units."""
    whole = int(seconds)
    minutes = int(seconds / 60)
    hours = int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def status(state: State, now: float) -> str:
    """The STATUS column, e.g. "Up 3 minutes (healthy)"; `now` in seconds since the epoch."""
    match state.status:
        case "paused":
            return f"Up {_since(state.started_at, now)} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {_since(state.finished_at, now)} ago"
        case "running":
            return f"Up {_since(state.started_at, now)}{_health(state)}"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
    if state.started_at == ZERO_TIME or not state.started_at:
        return "Created"
    if state.finished_at == ZERO_TIME or not state.finished_at:
        return ""
    return f"Exited ({state.exit_code}) {_since(state.finished_at, now)} ago"


def _since(moment: str, now: float) -> str:
    return duration(now - epoch_ns(moment) / 1e9)


def _health(state: State) -> str:
    if state.health is None or state.health.status in {"", "none"}:
        return ""
    starting = state.health.status == "starting"
    return f" ({'health: starting' if starting else state.health.status})"

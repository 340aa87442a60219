"""Format states as `docker ps` does.  Pure."""

from __future__ import annotations

from netkit.durations import human_duration
from netkit.timestamps import epoch_ns
from runtime.container.model import ZERO_TIME, State


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
    return human_duration(now - epoch_ns(moment) / 1e9)


def _health(state: State) -> str:
    if state.health is None or state.health.status in {"", "none"}:
        return ""
    starting = state.health.status == "starting"
    return f" ({'health: starting' if starting else state.health.status})"

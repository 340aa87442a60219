"""Durations as Docker shows them."""

from __future__ import annotations

MINUTE, HOUR = 60, 3600


def human_duration(seconds: float) -> str:
    """ "About an hour", "3 weeks": as units.HumanDuration of github.com/docker/go-units."""
    whole, minutes, hours = int(seconds), int(seconds / MINUTE), int(seconds / HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < MINUTE:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if hours < 24 * 7 * 2:
        return f"{days} days"
    if hours < 24 * 30 * 2:
        return f"{days // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{days // 30} months"
    return f"{int(seconds / HOUR) // 24 // 365} years"

"""Resolve a container's user from its passwd and group files.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netkit.errors import InvalidSpec
from runtime.numbers import natural

MAX_ID = 2**31 - 1  # larger numbers wrap around to root in places (CVE-2024-40635)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve(text: str, passwd: bytes, group: bytes, extra: Iterable[str] = ()) -> User:
    """ "", "user", "uid", "user:group", "uid:gid", with `extra` groups by name or number.

    Errors are Docker's, since clients match them.
    """
    name, _, group_name = text.partition(":")
    users, groups = list(_passwd(passwd)), list(_group(group))
    found = _user(name, users)
    if found:
        login, uid, gid, home = found
    elif name == "":
        login, uid, gid, home = "root", 0, 0, "/"
    else:
        number = _number(name)
        if number is None:
            raise InvalidSpec(f"unable to find user {name}: no matching entries in passwd file")
        login, uid, gid, home = "", number, 0, "/"
    more: list[int] = []
    if group_name:
        gid = _gid(group_name, groups)
    elif login:
        more += [g for _, g, members in groups if login in members and g != gid]
    more += [_gid(word, groups) for word in extra]
    # the primary group is one of them, so that giving it up is no way around it (CVE-2022-36109)
    return User(uid=uid, gid=gid, groups=tuple(dict.fromkeys([gid, *more])), home=home or "/")


def _user(name: str, users: list[tuple[str, int, int, str]]) -> tuple[str, int, int, str] | None:
    number = _number(name) if name else 0
    for entry in users:
        if entry[0] == name:
            return entry
    return next((u for u in users if number is not None and u[1] == number), None)


def _gid(name: str, groups: list[tuple[str, int, list[str]]]) -> int:
    for known, gid, _ in groups:
        if known == name:
            return gid
    number = _number(name)
    if number is None:
        raise InvalidSpec(f"unable to find group {name}: no matching entries in group file")
    return number


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit():
        return None
    if (value := natural(text, MAX_ID)) is None:
        raise InvalidSpec(f"uids and gids must be in range 0-{MAX_ID}")
    return value


def _lines(data: bytes) -> Iterator[list[str]]:
    for line in data.decode(errors="replace").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip().split(":")


def _passwd(data: bytes) -> Iterator[tuple[str, int, int, str]]:
    for parts in _lines(data):
        if len(parts) < 4:
            continue
        uid, gid = natural(parts[2], MAX_ID), natural(parts[3], MAX_ID)
        if uid is not None and gid is not None:
            yield parts[0], uid, gid, parts[5] if len(parts) > 5 else "/"


def _group(data: bytes) -> Iterator[tuple[str, int, list[str]]]:
    for parts in _lines(data):
        gid = natural(parts[2], MAX_ID) if len(parts) >= 3 else None
        if gid is not None:
            members = parts[3].split(",") if len(parts) > 3 else []
            yield parts[0], gid, [m for m in members if m]

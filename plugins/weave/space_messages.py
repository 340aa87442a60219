"""Messages between peers about addresses.  Who sent one, its session says."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from plugins.weave.crypto import digest
from plugins.weave.entries import (
    Ballot,
    Decided,
    Entry,
    IdField,
    Number,
    Operation,
    PrefixField,
    Realm,
    SignatureField,
    Value,
)
from plugins.weave.wire import Codec

PAGE: Final = 900  # bytes of a state's that one message carries
PAGES: Final = 4096
Text = Annotated[str, msgspec.Meta(max_length=200)]


class About(Value, frozen=True):
    """All but `Decided`, which says it in its entry, begin with the ledger they are about."""

    ledger: IdField


class Prepare(About, frozen=True, tag=2):
    """I propose this entry: is there an earlier one, and would you vote for mine?"""

    ballot: Ballot
    entry: Entry


class Promise(About, frozen=True, tag=3):
    """I vote in no ballot below this one; `accepted` is what I voted for last."""

    number: Number
    ballot: Ballot
    accepted: Ballot | None
    entry: Entry | None
    objection: Text = ""


class Accept(About, frozen=True, tag=4):
    """Vote for it."""

    ballot: Ballot
    entry: Entry


class Accepted(About, frozen=True, tag=5):
    number: Number
    ballot: Ballot
    signature: SignatureField


class Declined(About, frozen=True, tag=6):
    """No vote: `promised` is a higher ballot, or there is an objection."""

    number: Number
    ballot: Ballot
    promised: Ballot
    objection: Text = ""


class Renew(About, frozen=True, tag=7):
    """To a member of the council: do not let anyone take what I own."""

    round: Number
    number: Number  # the last entry I know


class Grant(About, frozen=True, tag=8):
    """I promise.  `number`: the highest entry that I know, or voted for."""

    round: Number
    number: Number


class Submit(About, frozen=True, tag=9):
    """To a member of the council: propose this."""

    operation: Operation


class Unwanted(About, frozen=True, tag=10):
    """What was submitted is not going to be an entry, as things are."""

    operation: IdField  # `space_messages.name`
    number: Number  # the last entry I know
    objection: Text


class Pull(About, frozen=True, tag=11):
    """Send the entries after `number`; or pages of a state, from `page` on."""

    number: Number
    council: Number  # of the last change of the council that is known
    page: Annotated[int, msgspec.Meta(ge=0, lt=PAGES)] = 0


class Page(About, frozen=True, tag=12):
    """Of the state before entry `number`."""

    number: Number
    page: Annotated[int, msgspec.Meta(ge=0, lt=PAGES)]
    pages: Annotated[int, msgspec.Meta(ge=1, le=PAGES)]
    data: Annotated[bytes, msgspec.Meta(max_length=PAGE)]


class Ask(About, frozen=True, tag=13):
    """To an owner: give me addresses of `subnet`; of a single one: give me that."""

    realm: Realm
    subnet: PrefixField
    number: Number  # the last entry I know


class Denied(About, frozen=True, tag=14):
    """I have none to give, and why not."""

    realm: IdField
    subnet: PrefixField
    reason: Annotated[int, msgspec.Meta(ge=0, le=255)]


Message = (
    Decided | Prepare | Promise | Accept | Accepted | Declined | Renew | Grant | Submit | Unwanted
    | Pull | Page | Ask | Denied
)  # fmt: skip


def name(operation: Operation) -> bytes:
    """What stands for an operation in answers."""
    return digest(16, msgspec.msgpack.encode(operation))


CODEC: Final[Codec[Message]] = Codec(Message)  # type: ignore[arg-type]

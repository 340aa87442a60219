"""Parse detach keys, and find them in terminal input.  Pure."""

from __future__ import annotations

from netkit.errors import InvalidSpec

DEFAULT = "ctrl-p,ctrl-q"
_NAMED = {"[": 27, "\\": 28, "]": 29, "^": 30, "_": 31, "@": 0}


def parse(text: str | None) -> bytes:
    """ "ctrl-p,ctrl-q" or "a,b" as the bytes a terminal sends; b"" switches detaching off.

    InvalidSpec names the invalid key.
    """
    if text is None:
        text = DEFAULT
    return bytes(_key(word) for word in text.split(",")) if text else b""


def _key(word: str) -> int:
    if len(word) == 1 and ord(word) < 128:
        return ord(word)
    kind, _, key = word.partition("-")
    if kind == "ctrl" and len(key) == 1:
        if "a" <= key.lower() <= "z":
            return ord(key.lower()) - ord("a") + 1
        if key in _NAMED:
            return _NAMED[key]
    raise InvalidSpec(
        f"Invalid detach keys: Unknown character: '{word}'; use letters or ctrl-<a-z@^[,_>"
    )


class DetachKeyDetector:
    """Finds the sequence in a stream of input, also when it comes in pieces.

    Bytes of an unfinished sequence are held back and delivered when it turns out to be none.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to deliver, whether the sequence is complete)."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._seen]
            self._seen = 0
            if byte == self._keys[0]:
                self._seen = 1
            else:
                out.append(byte)
        return bytes(out), False

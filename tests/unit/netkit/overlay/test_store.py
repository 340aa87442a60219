"""The overlay's rows: a step is written whole or not at all, whatever a crash leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from netkit.errors import StoreError
from netkit.overlay.store import Row, Store


def test_rows_are_there_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.write([Row("a", b"k", b"1"), Row("a", b"l", b"2"), Row("b", b"k", b"3")], sync=True)
    store.write([Row("a", b"k", b"4"), Row("a", b"l", None), Row("c", b"x", None)], sync=False)
    store.close()
    again = Store(tmp_path / "db")
    assert again.rows() == {"a": {b"k": b"4"}, "b": {b"k": b"3"}}
    again.close()


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.write([Row("a", b"k", b"1")], sync=False)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    store.close()


@pytest.mark.slow
def test_what_a_crash_tore_is_as_if_never_begun(tmp_path: Path) -> None:
    """The write-ahead log is cut at many places: what is left are whole steps, the first ones."""
    store = Store(tmp_path / "db")
    store.write([Row("a", b"n", b"begun")], sync=True)
    folder = tmp_path / "copy"
    steps = [
        [Row("a", b"%d" % (n % 3), bytes([n]) * 200), Row("b", b"n", bytes([n]))]
        for n in range(1, 12)
    ]
    for step in steps:
        store.write(step, sync=True)
    wal = tmp_path / "db-wal"
    size = wal.stat().st_size
    seen = set()
    for cut in range(0, size + 1, 2503):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(tmp_path / "db", folder / "db")
        (folder / "db-wal").write_bytes(wal.read_bytes()[:cut])
        torn = Store(folder / "db")
        rows = torn.rows()
        torn.close()
        last = rows.get("b", {}).get(b"n", b"\0")[0]
        seen.add(last)
        expected: dict[str, dict[bytes, bytes]] = {"a": {b"n": b"begun"}} if rows else {}
        for step in steps[:last]:
            for row in step:
                assert row.value is not None
                expected.setdefault(row.table, {})[row.key] = row.value
        assert rows == expected
    store.close()
    assert len(seen) > 5


@pytest.mark.parametrize("what", ["no database", "its first page", "a page"])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, what: str) -> None:
    path = tmp_path / "db"
    store = Store(path)
    store.write([Row("a", b"%d" % n, bytes(500)) for n in range(100)], sync=False)
    store.close()
    data = bytearray(path.read_bytes())
    if what == "no database":
        data[:] = b"hello" * 100
    else:
        at = 40 if what == "its first page" else 3 * 4096
        data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    with pytest.raises(StoreError, match="netkit weave reset") as caught:
        Store(path)
    assert "\n" not in str(caught.value)

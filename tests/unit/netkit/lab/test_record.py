"""The record of what was applied outlives a kill at any line."""

from __future__ import annotations

from pathlib import Path

from netkit.lab.parts import Part
from netkit.lab.record import GARBAGE, Applied, Record

WEB: Part = ("container", "h1", "web")
DB: Part = ("container", "h2", "db")


def test_what_was_begun_is_uncertain_until_it_is_done(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "lab"))
    assert not record.exists()
    record.done([(WEB, {"a": 1})])
    record.begin([(WEB, {"a": 2})])
    found = Record(str(tmp_path / "lab")).read()
    assert not found.certain(WEB)
    assert found.possible(WEB) == [{"a": 1}, {"a": 2}]
    assert [v[WEB] for v in found.versions()] == [{"a": 1}, {"a": 2}]
    record.done([(WEB, {"a": 2})])
    found = record.read()
    assert found.certain(WEB)
    assert found.versions() == [{WEB: {"a": 2}}]
    record.begin([(WEB, None)])
    assert record.read().possible(WEB) == [{"a": 2}, None]
    record.done([(WEB, None)])
    assert record.read().known() == set()


def test_a_line_that_was_cut_short_does_not_count_nor_spoil_the_next(tmp_path: Path) -> None:
    record = Record(str(tmp_path))
    record.done([(WEB, 1)])
    with record.file.open("ab") as file:
        file.write(b'{"done": [[["container", "h1"')
    record.done([(DB, 2)])
    assert record.read().applied == {WEB: 1, DB: 2}


def test_a_host_is_forgotten_with_all_that_is_its(tmp_path: Path) -> None:
    record = Record(str(tmp_path))
    record.forget("h1")
    assert not record.exists()  # a lab that has none gets none by it
    record.done([(WEB, 1), (DB, 2), (("segment", "h1"), 3)])
    record.begin([(WEB, 4)])
    record.forget("h1")
    assert record.read().applied == {DB: 2, ("segment", "h1"): 3}
    assert record.read().begun == {}


def test_a_long_record_is_written_anew_and_says_the_same(tmp_path: Path) -> None:
    record = Record(str(tmp_path))
    lines = [{"done": [[list(WEB), n]]} for n in range(GARBAGE)]
    record._write(record.file, 0, lines)
    record.begin([(DB, 1)])
    before = record.read()
    size = record.file.stat().st_size
    record.compact()
    assert record.read() == before
    assert record.file.stat().st_size < size / 10


def test_up_records_what_it_makes_and_leaves_what_differs(tmp_path: Path) -> None:
    record = Record(str(tmp_path))
    assert Applied(record, {WEB: 1}, fresh=True).begin() == []
    assert record.read().possible(WEB) == [1]
    again = Applied(record, {WEB: 2, DB: 1}, fresh=False)  # the first was killed; then an edit
    assert again.begin() == [WEB]
    assert again.there() == {WEB: 2, DB: 1}
    again.done()
    found = record.read()
    assert found.applied == {DB: 1}
    assert found.possible(WEB) == [1]
    Applied(record, {WEB: 1}, fresh=False).done()
    assert record.read().applied == {WEB: 1, DB: 1}


def test_a_lab_without_a_record_gets_none_from_a_later_up(tmp_path: Path) -> None:
    record = Record(str(tmp_path))
    older = Applied(record, {WEB: 1}, fresh=False)
    assert older.begin() == []
    older.done()
    assert not record.exists()

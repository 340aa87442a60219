"""Samples become boxes: `bench.flame`."""

from __future__ import annotations

from xml.etree import ElementTree

from bench.flame import by_module, collapse, svg, tree, working

PERF = """netkitd
\t    7f01 read+0x1d (/lib/libc.so.6)
\t    5501 main loop (/usr/bin/python)

runc
\t    7f01 read+0x1d (/lib/libc.so.6)

netkitd
\t    7f01 read+0x1d (/lib/libc.so.6)
\t    5501 main loop (/usr/bin/python)

"""


def test_samples_of_perf_are_folded_outermost_first() -> None:
    assert collapse(PERF) == ["netkitd;main_loop;read 2", "runc;read 1"]


def test_names_may_have_blanks_and_files_may_be_deleted() -> None:
    lines = [
        "\t 7f01 std::function<void (int)>::operator()(int) const+0x1d (/lib/c.so)",
        "\t 7f02 main.(*Shim).Run (/usr/bin/runc (deleted))",
        "\t 7f03 [unknown] ([unknown])",
    ]
    assert collapse("\n".join(["a b", *lines, "", ""])) == [
        "a;[unknown];main.(*Shim).Run;std::function<void_(int)>::operator()(int)_const 1"
    ]


def test_functions_that_would_not_be_seen_have_no_box() -> None:
    root = tree(["a;b 9999", "a;c 1"])
    titles = [group[0].text for group in ElementTree.fromstring(svg(root))]
    assert titles == ["all: 10000 samples, 100.0%", "a: 10000 samples, 100.0%",
                      "b: 9999 samples, 100.0%"]  # fmt: skip


def test_without_samples_the_picture_is_empty() -> None:
    assert len(ElementTree.fromstring(svg(tree([])))) == 0
    assert collapse("") == []


def test_a_picture_has_a_box_for_each_function_as_wide_as_its_share() -> None:
    root = tree(["a;b 3", "a 1", "a;<c> 4", "no number"])
    assert (root.count, root.calls["a"].count, root.calls["a"].calls["b"].count) == (8, 8, 3)
    groups = ElementTree.fromstring(svg(root))
    widths = {g[0].text: float(g[1].attrib["width"]) for g in groups}
    assert widths == {
        "all: 8 samples, 100.0%": 1600, "a: 8 samples, 100.0%": 1600,
        "b: 3 samples, 37.5%": 600, "<c>: 4 samples, 50.0%": 800,
    }  # fmt: skip


def test_threads_that_wait_are_left_out() -> None:
    waiting = "_loop (netkit/threads.py:7);Condition.wait (threading.py:327) 80"
    busy = "run (threading.py:9);_loop (netkit/threads.py:7);Host.apply (netkit/kernel/host.py:1) 3"
    assert working([waiting, busy]) == [busy]


def test_what_a_module_calls_of_others_is_its_own() -> None:
    folded = [
        "run (threading.py:9);Host.apply (netkit/kernel/host.py:1);send (socket.py:4) 3",
        "run (threading.py:9);Host.apply (netkit/kernel/host.py:2) 1",
        "run (threading.py:9);start (runtime/api/routes/containers.py:8) 2",
        "run (threading.py:9) 2",
    ]
    assert by_module(folded) == [
        ("netkit/kernel/host.py", 0.5),
        ("runtime/api/routes/containers.py", 0.25),
        ("(none of netkit's)", 0.25),
    ]

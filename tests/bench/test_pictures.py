"""The page on performance: its tables and pictures are those of what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import pictures
from bench.__main__ import FULL
from bench.report import Curve, Section, Target, write_json
from docs._ext.performance import read, table, versions
from tests.kit.checkout import ROOT

PAGE = (ROOT / "docs" / "performance.rst").read_text(encoding="utf-8")


def section(part: str, cost: float, picture: str = "pool") -> Section:
    """What a part of the benchmark has measured."""
    made = Section(f"The part {part}", part)
    made.add(
        "CPU us per query",
        {"staggerdns": [cost, cost + 2, cost + 1], "dnsmasq": [10.0, 10.0, 10.0]},
        base="dnsmasq",
        target=Target(2, at_least=False, of_ratio=True),
    )
    made.count("staggerdns", 0, 1_000)
    made.curves += [
        Curve(picture, "staggerdns", [0, 25, 50, 75], [0, 3, 3, 15]),
        Curve(picture, "dnsmasq", [0, 25, 50, 75], [0, 3, 3, 3]),
    ]
    return made


def report(tmp_path: Path, *sections: Section) -> dict[str, Any]:
    """The file that the benchmark would have written."""
    path = tmp_path / "report.json"
    environment = {"cpu": "a model", "staggerdns": "1.2", "nsd": "4.6"}
    write_json(path, environment, sections)
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def test_new_figures_take_the_place_of_old_ones(tmp_path: Path) -> None:
    """What was not measured again stays."""
    before = pictures.merge({}, report(tmp_path, section("own", 18), section("same", 12)))
    after = pictures.merge(before, report(tmp_path, section("own", 30)))
    assert [row[2] for row in after["parts"]["own"]["table"]] == ["31", "10"]
    assert after["parts"]["same"] == before["parts"]["same"]


def test_the_page_does_not_name_the_machine(tmp_path: Path) -> None:
    """It says in words what it is like."""
    merged = pictures.merge({}, report(tmp_path, section("own", 18)))
    assert "a model" not in json.dumps(merged)
    assert list(versions(merged["parts"])) == ["* staggerdns 1.2, nsd 4.6"]


def test_versions_of_parts_that_were_measured_apart(tmp_path: Path) -> None:
    """Each is given with its parts."""
    merged = pictures.merge({}, report(tmp_path, section("own", 18), section("same", 12)))
    merged["parts"]["own"]["versions"] = {"staggerdns": "1.3"}
    assert list(versions(merged["parts"])) == [
        "* staggerdns 1.3 (own)",
        "* staggerdns 1.2, nsd 4.6 (same)",
    ]


def test_table_of_a_page(tmp_path: Path) -> None:
    """A row for each line that the benchmark prints, and its notes."""
    (part,) = pictures.merge({}, report(tmp_path, section("own", 18)))["parts"].values()
    part["table"][1][2] = "-0.5"
    lines = list(table(part))
    assert lines[0] == ".. list-table:: The part own"
    first = lines.index("   * - CPU us per query")
    assert lines[first + 1 : first + 8] == [
        "     - staggerdns",
        "     - 19",
        "     - 18",
        "     - 20",
        "     - 1.90",
        "     - ratio <= 2",
        "     - met",
    ]
    assert "     - \\-0.5" in lines, "a list in a cell"
    assert "* without a good answer: staggerdns 0 of 1,000" in lines


@pytest.mark.long
@pytest.mark.parametrize("name", pictures.PICTURES)
def test_pictures(name: str, tmp_path: Path) -> None:
    """The same figures make the same file, in which text is text."""
    merged = pictures.merge({}, report(tmp_path, section("own", 18, name)))
    lines = pictures.curves(merged)[name]
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        pictures.draw(name, lines, path)
    one, two = (path.read_bytes() for path in paths)
    assert one == two
    words = set(re.findall(r">([^<>]+)</text>", one.decode()))
    assert {pictures.PICTURES[name].title, "staggerdns", "dnsmasq"} <= words
    assert b"<dc:date>" not in one


def test_points_at_which_nothing_changes_are_not_kept(tmp_path: Path) -> None:
    """But the ends are."""
    (lines,) = pictures.curves(pictures.merge({}, report(tmp_path, section("own", 18)))).values()
    assert [line["x"] for line in lines] == [[0, 25, 75], [0, 25, 75]]
    assert [line["y"] for line in lines] == [[0, 3, 15], [0, 3, 3]]


def test_the_file_of_a_page_reads_as_it_was_written(tmp_path: Path) -> None:
    """One line for each part, so that a change shows what was measured anew."""
    merged = pictures.merge({}, report(tmp_path, section("own", 18), section("same", 12)))
    text = pictures.written(merged)
    assert json.loads(text) == merged
    assert len(text.splitlines()) == 2 + len(merged["parts"])


def test_a_picture_differs_with_its_figures(tmp_path: Path) -> None:
    """Else two that are the same would say nothing."""
    merged = pictures.merge({}, report(tmp_path, section("own", 18)))
    (lines,) = pictures.curves(merged).values()
    pictures.draw("pool", lines, tmp_path / "one.svg")
    pictures.draw("pool", lines[:1], tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() != (tmp_path / "two.svg").read_bytes()


def test_the_page_has_every_part_and_every_picture() -> None:
    """A new one is shown, too."""
    listed = " ".join(re.findall(r"performance-table:: (.*)", PAGE)).split()
    assert sorted(listed) == sorted(FULL) == sorted(read())
    drawn = re.findall(r"figure:: performance-(\w+)\.svg", PAGE)
    assert sorted(drawn) == sorted(pictures.PICTURES) == sorted(pictures.curves({"parts": read()}))

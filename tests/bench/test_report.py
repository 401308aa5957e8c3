"""The tables of the benchmark: ratios, and targets of more than one server."""

from __future__ import annotations

from bench.report import Figure, Section, Target

AT_MOST = Target(1.5, at_least=False, of_ratio=True)
SLOW, QUICK, RIVAL = [40.0, 30.0, 20.0], [8.0, 15.0, 4.0], [10.0, 20.0, 5.0]


def section(target: Target | dict[str, Target | None], *, paired: bool = False) -> Section:
    """One measure of three servers."""
    made = Section("title")
    rounds = {"slow": SLOW, "quick": QUICK, "rival": RIVAL}
    made.add("us", rounds, base="rival", target=target, paired=paired)
    return made


def figure(made: Section, server: str) -> Figure:
    """What the section has of a server."""
    return next(one for one in made.figures if one.server == server)


def test_a_single_target_is_for_the_first_server() -> None:
    """Whatever its name is."""
    made = section(AT_MOST)
    assert [one.met for one in made.figures] == [False, None, None]


def test_each_server_has_the_target_that_is_named_with_it() -> None:
    """One that is not measured does not matter."""
    made = section({"quick": AT_MOST, "slow": Target(3, at_least=False), "absent": AT_MOST})
    assert figure(made, "quick").met is True
    assert figure(made, "slow").met is False
    assert figure(made, "rival").met is None


def test_a_paired_ratio_is_that_of_the_rounds() -> None:
    """What the machine does in one round is in both."""
    assert figure(section(AT_MOST), "slow").ratio == 3.0
    assert figure(section(AT_MOST, paired=True), "slow").ratio == 4.0
    assert figure(section(AT_MOST, paired=True), "rival").ratio is None

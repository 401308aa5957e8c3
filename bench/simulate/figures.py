"""Figures of a strategy in a landscape, its targets, and how both are shown. Times are seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.simulate.landscapes import Draws, Kind
from bench.simulate.reference import ask_all, best_pace, percentile
from bench.simulate.replay import Plan, replay

#: Against asking all at once, on the same draws.
MOST_P95 = 1.1
MOST_WINDOW = 0.4


@dataclass(frozen=True)
class Firsts:
    """First answers: percentiles, and the share of names with a wrong answer or none, though
    some upstream would have answered well.
    """

    p50: float
    p95: float
    p99: float
    wrong: float

    @classmethod
    def of(cls, answers: Sequence[tuple[float, bool]], draws: Draws) -> Firsts:
        """Return the figures of (time, good or not) per measured name."""
        could = [
            any(kind == Kind.GOOD for kind, _ in samples) for samples in draws.samples[draws.warm :]
        ]
        wrong = sum(
            possible and not good for possible, (_, good) in zip(could, answers, strict=True)
        )
        times = sorted(time for time, _ in answers)
        return cls(
            p50=percentile(times, 0.5),
            p95=percentile(times, 0.95),
            p99=percentile(times, 0.99),
            wrong=wrong / len(times),
        )


@dataclass(frozen=True)
class Figures:
    """One plan in one landscape; see `HEAD` for what the columns say.

    ``window`` leaves out names whose whole active tier failed, for which the next batch need not
    wait; ``window_failed`` has them. ``pools`` is the share of full pools, ``full_p95`` the time
    after which 95 % of those were full. ``best_ratio`` is `best_pace` over asking all. ``missed``
    says which targets, and by how much; `None`: the plan has none, for it fills no pools.
    """

    plan: str
    firsts: Firsts
    ratio: float
    best_ratio: float | None
    queries: float
    window: int
    window_failed: int
    share: float
    pools: float
    full_p50: float
    full_p95: float
    missed: tuple[str, ...] | None

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the table."""
        first = self.firsts
        both = f"{self.window}" + (
            f" ({self.window_failed})" if self.window_failed > self.window else ""
        )
        verdict = "" if self.missed is None else "MISSED " + ", ".join(self.missed)
        return (
            self.plan,
            *(_ms(value) for value in (first.p50, first.p95, first.p99)),
            f"{self.ratio:.2f}",
            "" if self.best_ratio is None else f"{self.best_ratio:.2f}",
            f"{first.wrong:.1%}",
            f"{self.queries:.1f}",
            both,
            f"{self.share:.0%}",
            f"{self.pools:.1%}",
            *((_ms(self.full_p50), _ms(self.full_p95)) if self.pools else ("", "")),
            "met" if self.missed == () else verdict,
        )


HEAD = (
    *("", "p50", "p95", "p99", "p95/all", "best", "wrong", "queries"),
    *("window", "of all", "full", "full p50", "full p95", ""),
)


def baseline(plan: Plan, draws: Draws) -> Firsts:
    """Return the first answers of asking all at once."""
    upstream = plan.config(len(draws.samples[0])).upstream
    grace, timeout = upstream.parallel.negative_grace, upstream.timeout
    answers = [ask_all(samples, grace, timeout) for samples in draws.samples[draws.warm :]]
    return Firsts.of(answers, draws)


def figures(plan: Plan, draws: Draws) -> Figures:
    """Replay ``draws`` with ``plan`` and return the figures."""
    count = len(draws.samples[0])
    upstream = plan.config(count).upstream
    numbers = upstream.parallel
    everybody = baseline(plan, draws)
    done = replay(plan, draws)
    firsts = Firsts.of([(name.first, name.good) for name in done.names], draws)
    ratio = firsts.p95 / everybody.p95
    windows: dict[bool, int] = {False: 0, True: 0}
    for number, name in enumerate(done.names, draws.warm):
        at_once = sum(launch == 0 for launch in name.launches)
        failed = all(draws.samples[number][one][0] == Kind.SERVFAIL for one in name.asked[:at_once])
        windows[failed] = max(windows[failed], name.window(numbers.stagger_delay))
    full = sorted(
        name.last for name, missing in zip(done.names, done.missing, strict=True) if not missing
    )
    pools, share = len(full) / len(done.names), windows[False] / count
    missed, best_ratio = None, None
    if upstream.strategy == "parallel":
        best_ratio = (
            best_pace(
                draws,
                active=numbers.active_tier_size,
                batch=numbers.batch_size,
                stagger=numbers.stagger_delay,
            )
            / everybody.p95
        )
        missed = tuple(
            said
            for said, bad in (
                (
                    f"p95 {ratio - 1:+.0%}"
                    + (f" (at best {best_ratio - 1:+.0%})" if best_ratio > MOST_P95 else ""),
                    ratio > MOST_P95,
                ),
                (f"window {share:.0%}", share > MOST_WINDOW),
                (f"pools {pools:.1%}", pools < 1),
            )
            if bad
        )
    return Figures(
        plan=plan.name,
        firsts=firsts,
        ratio=ratio,
        best_ratio=best_ratio,
        queries=sum(len(name.launches) for name in done.names) / len(done.names),
        window=windows[False],
        window_failed=windows[True],
        share=share,
        pools=pools,
        full_p50=percentile(full, 0.5) if full else 0.0,
        full_p95=percentile(full, 0.95) if full else 0.0,
        missed=missed,
    )


def table(lines: Sequence[Figures], everybody: Firsts, upstreams: int) -> str:
    """Return the lines aligned, asking all at once on top."""
    alone = (
        "all at once",
        *(_ms(value) for value in (everybody.p50, everybody.p95, everybody.p99)),
        "1.00",
        "",
        f"{everybody.wrong:.1%}",
        f"{upstreams:.1f}",
        f"{upstreams}",
        "100%",
        *("", "", "", ""),
    )
    return aligned([HEAD, alone, *(line.cells() for line in lines)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equally many cells as lines: the first and the last column to the left, the
    others to the right.
    """
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last + 1)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if column in {0, last} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}" if seconds < 0.1 else f"{seconds * 1000:.0f}"

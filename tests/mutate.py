"""Change one default or one comparison at a time, and see that some test fails each time.

    .venv/bin/python -m tests.mutate [WORD ...]      or: make mutate

Mutated are every default of a setting (``staggerdns/settings/``), which a test of what the program
does must notice, not one that reads the configuration; and every comparison and condition of the
decision on a question (``staggerdns/strategy/decision.py``). Each mutant has its quick tests
(`TESTS`), which end with the first failure. With words, only mutants whose description has all of
them are tried. The exit status is 1 if a mutant survives.

The sources stay as they are: everything happens in copies of the tree in a temporary directory, one
for each processor, and each mutant in a process of its own that has `LIMIT` seconds.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
SECTIONS = (
    "staggerdns/settings/policy.py",
    "staggerdns/settings/sections.py",
    "staggerdns/settings/upstreams.py",
)
DECISION = "staggerdns/strategy/decision.py"
COPIED = ("staggerdns", "twisted", "tests", "etc", "bench", "pyproject.toml", "README.rst")
LIMIT = 120
"""Seconds that the tests of one mutant may take; one that makes them hang is found by that."""
_DEFAULTS = "tests/test_defaults.py"
TESTS: dict[str, tuple[str, ...]] = {
    DECISION: ("tests/strategy/test_decision.py",),
    "ClientSettings": ("tests/server/test_clientgroups.py",),
    "ParallelSettings": ("tests/strategy/test_timeline.py", "tests/resolver/test_merging.py"),
    "RacingSettings": ("tests/strategy/test_racing.py", "tests/strategy/test_adaptive.py"),
    "SequentialSettings": ("tests/strategy/test_one_by_one.py", "tests/strategy/test_adaptive.py"),
    "HealthSettings": ("tests/upstream/test_health.py",),
    "AdaptiveSettings": ("tests/strategy/test_adaptive.py", "tests/upstream/test_latency.py"),
    "LocalSettings": ("tests/server/test_local.py",),
    "RebindingSettings": ("tests/resolver/test_poison.py",),
    "CacheSettings": ("tests/resolver/test_lives.py",),
    "StateSettings": ("tests/policy/lists/test_compose.py",),
    "AddressSettings": ("tests/resolver/test_address_rules.py",),
    "RouteSettings": ("tests/test_routing.py",),
    "RouteRankingSettings": ("tests/test_routing.py",),
    "RouteRebindingSettings": ("tests/test_routing.py",),
    "PageSettings": ("tests/page/test_site.py", "tests/page/test_api.py"),
    "GroupSettings": ("tests/test_grouping.py", "tests/test_blocking.py"),
    "ListSettings": ("tests/test_blocking.py", "tests/policy/lists/test_lists.py"),
}
"""The quick tests of the decision, and those of single sections beside `_DEFAULTS`."""
_OTHER_WORDS = {
    "parallel": "racing",
    "balanced": "latency",
    "auto": "off",
    "info": "debug",
    "/etc/hosts": "/dev/null",
}
_PRELOADED = ("msgspec", "OpenSSL", "prometheus_client", "twisted.trial.unittest", "yaml", "h2")
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}


@dataclass(frozen=True)
class Mutant:
    """One change: ``source`` is the whole text of ``module`` with it."""

    module: str
    description: str
    source: str
    tests: tuple[str, ...]


def _replaced(module: str, node: ast.expr, new: str, where: str = "") -> Mutant:
    """The module with ``new`` in place of an expression."""
    text = (ROOT / module).read_bytes()
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    begin = starts[node.lineno - 1] + node.col_offset
    end = starts[node.end_lineno - 1] + node.end_col_offset
    old = text[begin:end].decode()
    source = (text[:begin] + new.encode() + text[end:]).decode()
    ast.parse(source)
    tests = (
        TESTS[module] if module in TESTS else (_DEFAULTS, *TESTS.get(where.partition(".")[0], ()))
    )
    return Mutant(module, f"{module}:{node.lineno}: {where}{old} -> {new}", source, tests)


def comparisons(module: str) -> Iterator[Mutant]:
    """Each comparison turned round or moved by one step, each other condition turned round."""
    for node in ast.walk(ast.parse((ROOT / module).read_bytes())):
        if isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                for other in _COMPARISONS[type(operator)]:
                    operators = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                    changed = ast.Compare(node.left, operators, node.comparators)
                    yield _replaced(module, node, f"({ast.unparse(changed)})")
        elif isinstance(node, ast.BoolOp):
            operation = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
            changed_too = ast.unparse(ast.BoolOp(operation, node.values))
            yield _replaced(module, node, f"({changed_too})")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield _replaced(module, node, f"bool({ast.unparse(node.operand)})")
        elif isinstance(node, ast.If | ast.IfExp) and isinstance(
            node.test, ast.Name | ast.Attribute
        ):
            yield _replaced(module, node.test, f"(not {ast.unparse(node.test)})")


def defaults(module: str) -> Iterator[Mutant]:
    """Each default of a setting and each number of a profile made another one, each list that a
    default is made of without one of its items.
    """
    for node in ast.parse((ROOT / module).read_bytes()).body:
        if isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.AnnAssign) and one.value is not None:
                    where = f"{node.name}.{ast.unparse(one.target)} = "
                    yield from _other_values(module, one.value, where)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                assert key is not None
                for number in ast.walk(value):
                    if isinstance(number, ast.Constant) and not isinstance(number.value, bool):
                        yield from _other_values(module, number, f"{ast.unparse(key)}: ")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            where = f"{ast.unparse(node.targets[0])} = "
            for index in range(len(node.value.elts)):
                others = [*node.value.elts[:index], *node.value.elts[index + 1 :]]
                yield _replaced(module, node.value, ast.unparse(ast.Tuple(others)), where)


def _other_values(module: str, node: ast.expr, where: str) -> Iterator[Mutant]:
    if isinstance(node, ast.Constant):
        yield _replaced(module, node, _another(node.value), where)
    elif isinstance(node, ast.BinOp):  # octets, which the cache counts in blocks of 16
        yield _replaced(module, node, f"{ast.unparse(node)} + 16", where)
    elif isinstance(node, ast.Tuple) and node.elts:
        yield _replaced(module, node, ast.unparse(ast.Tuple(node.elts[:-1])), where)
        yield from _other_values(module, node.elts[0], where)
    elif isinstance(node, ast.Tuple):
        yield _replaced(module, node, r'(b"\7example\0",)', where)  # a domain
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "tuple":
        yield _replaced(module, node, f"{ast.unparse(node)}[:-1]", where)
    elif isinstance(node, ast.Call) and node.args:
        yield from _other_values(module, node.args[-1], where)


def _another(value: object) -> str:
    """The source of a value of the same kind, as near as tests can be expected to see."""
    if value is None:
        return '"something"'
    if isinstance(value, bool):
        return repr(not value)
    if isinstance(value, int):
        return repr(value + 1)
    if isinstance(value, float):
        return repr(value * 1.1)
    assert isinstance(value, str)
    duration = re.fullmatch(r"(\d+)(m?s)", value)
    if duration:
        return repr(f"{int(duration[1]) + 1}{duration[2]}")
    return repr(_OTHER_WORDS.get(value, f"{value}x"))


class Workplace:
    """A copy of the tree, in which one mutant after the other is tried."""

    _age = count(int(time.time()))

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ignored = shutil.ignore_patterns("__pycache__")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, directory / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, directory / name)
        self.mutant: Mutant | None = None
        self._originals = {
            module: (directory / module).read_text("utf-8") for module in (DECISION, *SECTIONS)
        }

    def begin(self, mutant: Mutant | None, tests: Sequence[str]) -> int:
        """Run tests in the tree with a mutant, or as it is, in a process; return its ID."""
        self.mutant = mutant
        if mutant is not None:
            self._write(mutant.module, mutant.source)
        child = os.fork()
        if not child:
            self._run_tests(tests)
        return child

    def end(self) -> None:
        """Restore the tree."""
        if self.mutant is not None:
            self._write(self.mutant.module, self._originals[self.mutant.module])

    @property
    def output(self) -> Path:
        """What the tests have printed."""
        return self.directory / "output"

    def _write(self, module: str, source: str) -> None:
        path = self.directory / module
        path.write_text(source, encoding="utf-8")
        age = next(self._age)  # bytecode of an equal size and second would count as this one's
        os.utime(path, (age, age))

    def _run_tests(self, tests: Sequence[str]) -> None:
        """End the process with the exit status of pytest."""
        status = 99
        try:
            signal.alarm(LIMIT)
            output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.directory)
            sys.dont_write_bytecode = False  # or each mutant would have all tests compiled anew
            sys.path[:] = [str(self.directory), *filter(None, sys.path)]
            import pytest  # noqa: PLC0415 (its plugins have to come after the fork)

            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _fails(status: int) -> bool:
    """Whether tests have failed, or died of the time limit, and not for want of tests."""
    return status in (1, 2) or status < 0


def try_all(mutants: Sequence[Mutant], workplaces: Sequence[Workplace]) -> list[Mutant]:
    """Return the mutants that survive; each result is printed as it comes."""
    waiting = deque(mutants)
    idle = list(workplaces)
    busy: dict[int, Workplace] = {}
    survivors = []
    while waiting or busy:
        while waiting and idle:
            workplace = idle.pop()
            mutant = waiting.popleft()
            busy[workplace.begin(mutant, mutant.tests)] = workplace
        child, wait_status = os.wait()
        workplace = busy.pop(child)
        status = os.waitstatus_to_exitcode(wait_status)
        assert workplace.mutant is not None
        if not _fails(status):
            survivors.append(workplace.mutant)
        said = "killed  " if _fails(status) else f"SURVIVES ({status})"
        print(said, workplace.mutant.description, flush=True)  # noqa: T201
        workplace.end()
        idle.append(workplace)
    return survivors


def main(words: Sequence[str]) -> str | None:
    """Try the mutants whose descriptions have all the ``words``; return what is wrong."""
    mutants = [
        mutant
        for mutant in (
            *comparisons(DECISION),
            *(mutant for module in SECTIONS for mutant in defaults(module)),
        )
        if all(word in mutant.description for word in words)
    ]
    for name in _PRELOADED:
        __import__(name)
    started = time.monotonic()
    with TemporaryDirectory(prefix="mutants-") as directory:
        workplaces = [
            Workplace(Path(directory) / str(number)) for number in range(os.cpu_count() or 1)
        ]
        first = workplaces[0]
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        child = first.begin(None, tests)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            return f"the tests fail as it is:\n{first.output.read_text('utf-8')}"
        survivors = try_all(mutants, workplaces)
    took = time.monotonic() - started
    print(f"{len(mutants)} mutants, {len(survivors)} survive; {took:.0f} s")  # noqa: T201
    return "\n".join(mutant.description for mutant in survivors) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

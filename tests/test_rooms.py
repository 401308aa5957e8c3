"""The house (docs/architecture.rst, Rooms): rooms import downwards only, and the reactor comes in
at the door.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import staggerdns

PACKAGE = Path(staggerdns.__file__).parent
ROOMS = (
    ("__main__",),
    ("command",),
    ("tap",),
    ("process",),
    ("service", "supervision"),
    ("page",),
    ("control", "rereading"),
    ("inspection",),
    ("chain", "assembly", "listeners"),
    ("configreader", "reload", "startline"),
    ("config", "configwarnings", "descriptors"),
    ("configgroups", "configfamilies"),
    ("configerrors", "configroutes"),
    ("querylog", "shared"),
    ("server", "state"),
    ("policy",),
    ("resolver",),
    ("traces",),
    ("strategy",),
    ("upstream",),
    ("ranking",),
    ("readiness",),
    ("outages", "lifecycle"),
    ("childprocess",),
    ("metrics", "processmetrics", "journal", "files", "logoutput", "hangups", "worker"),
    ("instruments", "standstill", "deferreds", "logformat"),
    ("settings",),
    ("wire",),
    ("errors", "compiled"),
)
"""From the top to the bottom; those in one line know nothing of each other."""
DOOR = ("process", "make_service")
"""Where alone the reactor comes in."""
FLOOR = {room: floor for floor, rooms in enumerate(reversed(ROOMS)) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))
GLOBAL_REACTOR = "twisted.internet.reactor"


class Import:
    """One import statement's target and where it stands."""

    def __init__(self, target: str, *, typing_only: bool, function: str) -> None:
        self.target = target
        self.typing_only = typing_only
        self.function = function


def imports(path: Path) -> list[Import]:
    """Every import of a module, those inside functions included."""
    found: list[Import] = []
    package = ("staggerdns", *path.relative_to(PACKAGE).parts[:-1])

    def visit(node: ast.AST, function: str, typing_only: bool) -> None:
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            targets = []
        found.extend(
            Import(target, typing_only=typing_only, function=function) for target in targets
        )
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                visit(statement, function, True)
            for statement in node.orelse:
                visit(statement, function, typing_only)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, function, typing_only)

    visit(ast.parse(path.read_text(encoding="utf-8")), "", False)
    return found


def room_of(module: str) -> str | None:
    """The room of a dotted name of our package, None for the package itself and for others."""
    parts = module.split(".")
    if parts[0] != "staggerdns" or len(parts) < 2 or parts[1].startswith("__"):
        return None
    return parts[1]


def home_of(path: Path) -> str | None:
    """The room that a module stands in."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def label(path: Path) -> str:
    """A module's name in the output of the tests."""
    return str(path.relative_to(PACKAGE))


def complaints(path: Path) -> list[str]:
    """What is wrong with the imports of one module."""
    home = home_of(path)
    wrong = []
    for one in imports(path):
        room = room_of(one.target)
        if one.target.startswith(GLOBAL_REACTOR) and (home, one.function) != DOOR:
            wrong.append("takes the global reactor")
        if home == "wire" and one.target.split(".")[0] == "twisted":
            wrong.append(f"wire imports {one.target}")
        if room is None or room == home:
            continue
        if home is None:  # the package: it hands on names that it looks up when they are asked for
            if not one.typing_only:
                wrong.append(f"the package imports {one.target}")
        elif room not in FLOOR or FLOOR[room] >= FLOOR[home]:
            wrong.append(f"{home} imports {one.target}")
    return wrong


def test_every_room_is_known() -> None:
    """A new room gets its floor here before it is built."""
    assert {home_of(path) for path in MODULES} - {None} <= set(FLOOR)


def test_the_table_of_rooms() -> None:
    """The page on the architecture has all of them, in this order."""
    page = (PACKAGE.parent / "docs" / "architecture.rst").read_text(encoding="utf-8")
    table = page.partition(".. _hit:")[0]
    listed = re.findall(r"^``staggerdns/(\w+)(?:/|\.py)`` ", table, re.MULTILINE)
    assert listed == [room for rooms in ROOMS for room in rooms]


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_imports_point_down(path: Path) -> None:
    """No module imports from a room above its own or beside it, not even for its types."""
    assert complaints(path) == []


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_modules_are_small(path: Path) -> None:
    """One idea a module: under about 400 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_formatting_is_never_switched_off() -> None:
    """What the formatter makes too long is too long; a table alone may be kept from it, by
    ``skip``.
    """
    root = Path(__file__).parent.parent
    folders = ("staggerdns", "twisted", "tests", "bench", "fuzz")
    switch = re.compile(r"#\s*fmt:\s*off")
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert [path for path in paths if switch.search(path.read_text(encoding="utf-8"))] == []


def private_touches(source: str, base: str) -> list[str]:
    """Attributes with a private name that subclasses of ``base`` use without having made them."""
    found = []
    families = {base}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    for node in classes:
        if families.isdisjoint(ast.unparse(one) for one in node.bases):
            continue
        families.add(node.name)
        made = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
        for one in node.body:
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "__slots__":
                made |= set(ast.literal_eval(one.value))
        found += [
            f"{node.name}.{one.attr}"
            for one in ast.walk(node)
            if isinstance(one, ast.Attribute)
            and one.attr.startswith("_")
            and not one.attr.startswith("__")
            and one.attr not in made
        ]
    return found


@pytest.mark.parametrize("base", ["Run", "SingleAnswerRun"])
@pytest.mark.parametrize("path", sorted((PACKAGE / "strategy").glob("*.py")), ids=label)
def test_strategies_touch_no_privates_of_a_run(path: Path, base: str) -> None:
    """What a run gives to those who extend it has plain names."""
    assert private_touches(path.read_text(encoding="utf-8"), base) == []


def test_private_touches_are_found() -> None:
    """Of attributes and methods, made by another class."""
    source = """
class Tries(Run):
    __slots__ = ("_own",)

    def step(self):
        self._own = self._busy
        self._help()

    def _help(self): ...

class Unrelated:
    def step(self):
        self._busy = True
"""
    assert private_touches(source, "Run") == ["Tries._busy"]


def module_name(path: Path) -> str:
    """The dotted name of a module, that of its package for ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("staggerdns", *parts)).removesuffix(".__init__")


def in_cycles(paths: list[Path]) -> list[str]:
    """The modules whose imports lead back to them, those for types alone included.

    The package itself is left out: it imports its names when they are asked for.
    """
    modules = {module_name(path): path for path in paths if home_of(path)}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets = [one.target for one in imports(path)]
        # What is imported is a module itself, or a name in one.
        named = {one if one in modules else one.rpartition(".")[0] for one in targets}
        graph[module] = named & modules.keys()

    def reach(start: str, seen: set[str]) -> set[str]:
        for target in graph[start] - seen:
            seen.add(target)
            reach(target, seen)
        return seen

    return [module for module in graph if module in reach(module, set())]


def test_modules_of_a_room_have_no_cycles() -> None:
    """No import leads back to where it started; those for types alone count as well."""
    assert in_cycles(MODULES) == []


@pytest.mark.parametrize(
    ("back", "cycle"),
    [
        ("from staggerdns.upstream.x import X", True),
        ("from staggerdns.upstream import x", True),
        ("import staggerdns.upstream.x", True),
        ("import staggerdns.upstream.x as other", True),
        ("from . import x", True),
        ("from .x import X", True),
        ("from ..upstream import x", True),
        ("def f():\n    from staggerdns.upstream import x", True),
        ("if TYPE_CHECKING:\n    from staggerdns.upstream.x import X", True),
        ("if TYPE_CHECKING:\n    from staggerdns.upstream import x", True),
        ("if TYPE_CHECKING:\n    import staggerdns.upstream.x", True),
        ("from staggerdns.upstream import z", True),
        ("from staggerdns.upstream import Upstream", True),
        ("from staggerdns import Chain", False),
        ("from staggerdns import errors", False),
        ("import staggerdns.errors", False),
        ("from other.upstream import x", False),
    ],
)
def test_cycles_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: str, cycle: bool
) -> None:
    """Whatever form the import has that leads back, and through how many modules it does."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    sources = {
        "__init__.py": "if TYPE_CHECKING:\n    from staggerdns.upstream.x import X",
        "errors.py": "",
        "upstream/__init__.py": "from staggerdns.upstream.x import X",
        "upstream/x.py": "from staggerdns.upstream import y",
        "upstream/y.py": back,
        "upstream/z.py": "import staggerdns.upstream.x",
    }
    (tmp_path / "upstream").mkdir()
    for name, text in sources.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = in_cycles([tmp_path / name for name in sources])
    assert ({"staggerdns.upstream.x", "staggerdns.upstream.y"} <= {*found}) == cycle
    assert bool(found) == cycle


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ("wire/x.py", "from twisted.internet import defer"),
        ("wire/x.py", "import twisted.python.failure"),
        ("wire/x.py", "from staggerdns.metrics import Metrics"),
        ("wire/x.py", "from staggerdns.journal import Journal"),
        ("metrics.py", "from staggerdns.wire.names import to_text\nfrom . import journal"),
        ("upstream/x.py", "from staggerdns.strategy.run import Run"),
        ("upstream/x.py", "def f():\n    from staggerdns import service"),
        ("strategy/x.py", "import staggerdns.resolver.cache"),
        ("strategy/x.py", "from ..resolver import cache"),
        ("config.py", "from .service import StaggerService"),
        ("__init__.py", "from staggerdns.chain import Chain"),
        ("chain.py", "from staggerdns import parse_config"),
        ("service.py", "from twisted.internet import reactor"),
        ("process.py", "from twisted.internet import reactor"),
        ("tap.py", "def makeService(options):\n    from twisted.internet import reactor"),
        (
            "resolver/x.py",
            "if TYPE_CHECKING:\n    from staggerdns.server.factory import StaggerServerFactory",
        ),
    ],
)
def test_the_rules_bite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, text: str
) -> None:
    """Each kind of forbidden import is found."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / home
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    assert len(complaints(path)) == 1


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ("process.py", "def make_service(runner):\n    from twisted.internet import reactor"),
        ("service.py", "from staggerdns.config import Config\nfrom .wire import names"),
        (
            "wire/x.py",
            "import struct\nfrom .names import to_text\nfrom staggerdns.wire import pool",
        ),
        ("upstream/x.py", "from twisted.internet.interfaces import IReactorTime"),
        ("__init__.py", "if TYPE_CHECKING:\n    from staggerdns.chain import Chain"),
    ],
)
def test_the_rules_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, text: str
) -> None:
    """What is allowed is not complained of."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / home
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    assert complaints(path) == []

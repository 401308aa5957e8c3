"""The demonstration: what it draws, what its upstreams say, and the whole as a process."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import dns.message
import pytest
import yaml
from twisted.names.dns import Message

import bench
from bench.demo import chart, place, upstreams
from bench.demo.picture import Timeline, draw
from bench.demo.program import settings
from bench.demo.upstreams import CHARACTERS, Asked
from tests.kit import clients
from tests.kit.ports import Endpoint

ROOT = Path(bench.__path__[0]).parent
SVG = "http://www.w3.org/2000/svg"
#: Seconds for anything, beside a busy neighbour.
DEADLINE = 60.0
NAME = "www.example.com"
#: How a line about an answer to us begins.
ROW = r"^\d\d:\d\d:\d\d\.\d\d\d  127\.0\.0\.1 +"
EVERYTHING = {address for one in CHARACTERS for address in one.addresses}


class Demo:
    """``python -m bench.demo`` as a process, and what it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.demo", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell starts what is in the background with SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    @property
    def text(self) -> str:
        """All that it has printed."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in what it prints."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.text, re.MULTILINE)

        with self._more:
            self._more.wait_for(lambda: found() is not None, DEADLINE)
        match = found()
        assert match is not None, f"nothing like {pattern!r} in:\n{self.text}"
        return match

    def ended(self) -> int:
        """Wait until it ends; return its exit status."""
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return status

    def close(self) -> None:
        """Let go of its output."""
        self._reader.join(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Demo]:
    """Start the demonstration and leave nothing of it behind."""
    demo = Demo(*arguments)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            demo.process.wait(DEADLINE)
        demo.close()


@pytest.mark.live
@pytest.mark.parametrize("arguments", [["--once"], ["--once", "--loopback"]])
def test_the_main_job(arguments: list[str], tmp_path: Path) -> None:
    """One question reaches all five, the first answer waits for nobody slow, the pool becomes
    whole, and the second question reaches nobody; all that in lines of 100 columns, and drawn. Then
    the program tells the same of itself, and why each address has its place.
    """
    picture = tmp_path / "timeline.svg"
    with running(*arguments, "--svg", str(picture)) as demo:
        assert demo.ended() == 0, demo.text
    assert "no answer" in picture.read_text(encoding="utf-8")
    told, _, explained = demo.text.partition("\nWhy is the answer as it is?")
    assert max(map(len, told.splitlines())) <= 100
    drawn = re.findall(r"^  (127\.0\.0\.1\d)  (active|batch \d) ", demo.text, re.MULTILINE)
    assert dict(drawn).keys() == {one.host for one in CHARACTERS}
    assert [tier for _, tier in drawn] == ["active", "active", "batch 1", "batch 1", "batch 2"]
    assert re.search(r"^  127\.0\.0\.13 .*no answer$", demo.text, re.MULTILINE)
    assert re.search(r"^  client .* 2 addresses$", demo.text, re.MULTILINE)
    assert re.search(r"^  pool .* 5 addresses$", demo.text, re.MULTILINE)
    assert re.search(r"^For the second time: .* Upstreams asked: none\.", demo.text, re.MULTILINE)
    queries = re.findall(r"^  (127\.0\.0\.1\d):\d+ +(active|staggered) ", explained, re.MULTILINE)
    assert sorted(queries) == [
        (one.host, "active" if place < 2 else "staggered") for place, one in enumerate(CHARACTERS)
    ]
    addresses = re.findall(r"^ +\d\. +(198\.\S+) ", explained, re.MULTILINE)
    assert set(addresses) == EVERYTHING
    assert "the client has its answer" in explained
    if "not ranked" not in told:
        assert addresses[0] == min(EVERYTHING, key=upstreams.distance)
        assert re.search(r"^ +1\. .* nearest$", explained, re.MULTILINE)


def _in_documentation() -> Iterator[str]:
    """Yield what docs/quickstart.rst shows of the output and is the same each time: all without a
    digit.
    """
    text = (ROOT / "docs" / "quickstart.rst").read_text(encoding="utf-8")
    shown = text.partition("\nSee it work\n")[2].partition("code-block:: text\n")[2]
    for line in shown.partition("\nThe addresses")[0].splitlines():
        if not re.search(r"\d", line):
            yield line.removeprefix("    ")


@pytest.mark.live
@pytest.mark.parametrize("arguments", [[], ["--loopback"]])
def test_it_stays_answers_and_draws_until_ctrl_c(arguments: list[str]) -> None:
    """The dig that it names gets its answer and a line, a further name is drawn, page and metrics
    are there, its command tells why, and Ctrl-C ends it and the program.
    """
    with running(*arguments) as demo:
        port = int(demo.wait_for(r"^  dig @127\.0\.0\.1 -p (\d+) www\.example\.com$")[1])
        web = demo.wait_for(r"^  curl http://(\S+)$")[1]
        page = demo.wait_for(r"^  open http://(\S+) in a browser$")[1]
        command = demo.wait_for(r"^  (\S+ -m staggerdns .*) any\.other\.name\.example\.com$")[1]
        demo.wait_for("Ctrl-C ends")
        endpoint = Endpoint("127.0.0.1", port)
        for tcp in (False, True):
            reply = clients.ask(endpoint, NAME, tcp=tcp)
            assert set(reply.addresses) == EVERYTHING
        row = rf"{ROW} cache .*  {re.escape(NAME)}\. A  NOERROR  198\."
        clients.eventually(  # the demonstration may just have begun to watch
            lambda: (clients.ask(endpoint, NAME), re.search(row, demo.text, re.MULTILINE))[1],
            timeout=DEADLINE,
        )
        assert clients.ask(endpoint, "x.example.net", "AAAA").rcode == "NOERROR"
        demo.wait_for(rf"{ROW} upstream .*  x\.example\.net\. AAAA  NOERROR$")
        demo.wait_for(r"^x\.example\.net AAAA:$")
        with urllib.request.urlopen(f"http://{page}", timeout=DEADLINE) as answer:
            assert answer.headers.get_content_type() == "text/html"
        with urllib.request.urlopen(f"http://{web}", timeout=DEADLINE) as answer:
            assert b"staggerdns_queries_total" in answer.read()
        why = subprocess.run(
            [*command.split(), "x.example.net", "AAAA"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        assert why.stdout.startswith("x.example.net. AAAA\n\nasked by the strategy parallel")
        demo.process.send_signal(signal.SIGINT)
        assert demo.ended() == 0, demo.text
        assert "Traceback" not in demo.text
        if "not ranked" not in demo.text:
            assert set(_in_documentation()) <= set(demo.lines)
        with pytest.raises(ConnectionRefusedError):
            clients.ask(endpoint, "www.example.com", timeout=0.5)


def test_the_picture() -> None:
    """It has a row for each upstream, the client and the pool, bars where the queries were, and no
    word about an order when nothing was probed.
    """
    queries = [
        (Asked("127.0.0.11", "x A", 5.0, 5.05, 1), "active"),
        (Asked("127.0.0.13", "x A", 5.1), "batch <1>"),
    ]
    growth = [(0.05, 1), (0.12, 2)]
    drawn = draw(Timeline(queries, 5.0, growth[0], growth, 0.35))
    root = ET.fromstring(drawn)  # noqa: S314 (it is our own)
    said = [element.text for element in root.iter(f"{{{SVG}}}text")]
    for words in ("127.0.0.11", "50 ms, 1 address", "batch <1>", "no answer", "2 addresses"):
        assert words in said
    assert "nearest first after 350 ms" in said
    upstream, client = [bar for bar in root.iter(f"{{{SVG}}}rect") if bar.get("height") == "14"]
    assert upstream.get("x") == client.get("x")
    assert upstream.get("width") == client.get("width")
    assert "nearest" not in draw(Timeline(queries, 5.0, growth[0], growth, None))


def test_the_picture_of_the_documentation() -> None:
    """It shows the five upstreams of the demonstration, and what came of them in a real run."""
    text = (ROOT / "docs" / "timeline.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314 (it is our own)
    said = {element.text for element in root.iter(f"{{{SVG}}}text")}
    assert {one.host for one in CHARACTERS} < said
    assert {"no answer", f"{len(EVERYTHING)} addresses"} < said
    assert any(str(words).startswith("nearest first after") for words in said)


def test_only_servers_ports_and_socket_are_others() -> None:
    """The program has the settings of etc/staggerdns.yaml but for four; where it must not probe,
    but for five.
    """
    shipped = yaml.safe_load((ROOT / "etc" / "staggerdns.yaml").read_text())
    place = (5301, 9154), Path("/tmp/control"), ["127.0.0.11:53"]  # noqa: S108 (nothing is made)
    ours = settings(*place, probes=True)
    assert ours["server"].pop("listen") == ["127.0.0.1:5301"]
    assert ours["metrics"].pop("listen") == "127.0.0.1:9154"
    assert ours["upstream"].pop("servers") == ["127.0.0.11:53"]
    assert ours["control"].pop("socket") == "/tmp/control"  # noqa: S108
    for section, key in (
        ("server", "listen"),
        ("metrics", "listen"),
        ("upstream", "servers"),
        ("control", "socket"),
    ):
        del shipped[section][key]
    assert ours == shipped
    quiet = settings(*place, probes=False)
    assert quiet["ranking"] == {**shipped["ranking"], "enabled": False}


def test_what_an_upstream_says() -> None:
    """Its addresses to those who ask for A, under the letters of the question; NODATA to others."""
    for kind, expected in (("A", ["198.18.9.1"]), ("AAAA", [])):
        query = Message()
        query.fromStr(dns.message.make_query("wWw.Example.com", kind, id=77).to_wire())
        reply = clients.parse(upstreams.answer(query, ("198.18.9.1",)).toStr())
        assert (reply.id, clients.addresses(reply)) == (77, expected)
        assert str(reply.question[0].name) == "wWw.Example.com."
        assert bool(reply.authority) == (not expected)


def test_queries_are_drawn_where_they_belong() -> None:
    """Four milliseconds a column, from the question to the answer; who is silent gets dots."""
    asked = Asked("127.0.0.11", "x A", 10.04, answered=10.08, addresses=1)
    line = chart.asked_line(asked, "active", 10.0)
    assert line.startswith("  127.0.0.11  active    " + " " * 10 + "|=========>")
    assert line.endswith("  40 ms, 1 address")
    silent = chart.asked_line(Asked("127.0.0.13", "x A", 10.0), "batch 1", 10.0)
    assert silent.endswith("|" + "." * (chart.COLUMNS - 1) + "  no answer")
    late = Asked("127.0.0.11", "x A", 19.0, answered=20.0, addresses=2)
    assert len(chart.asked_line(late, "batch 2", 10.0)) <= 100
    assert chart.pool_line([(0.02, 2), (0.1, 5)])[24:].split() == ["2", "5", "5", "addresses"]
    assert chart.scale()[24:].startswith("0 ms ")
    assert chart.scale()[24 + 25 :].startswith("100 ")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["active"]),
        (3, ["active", "active", "batch 1"]),
        (5, ["active", "active", "batch 1", "batch 1", "batch 2"]),
    ],
)
def test_tiers_have_names(count: int, expected: list[str]) -> None:
    """The first queries are the active tier's, the others come in batches."""
    assert chart.tiers(count, 2, 2) == expected


@pytest.mark.live
def test_why_there_is_no_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs, or where the kernel refuses, one line says why."""
    monkeypatch.setattr(place, "_PATH", "/nonexistent")
    with pytest.raises(place.NoPlace, match="the program ip is missing"):
        place.check()
    monkeypatch.undo()
    monkeypatch.setattr(place, "_ANSWERER", ("sh", "-c", "echo first >&2; echo no >&2; exit 3"))
    monkeypatch.setattr(place, "_unshare", lambda: ["env", "--"])
    with pytest.raises(place.NoPlace, match=r"^no$"):
        place.check()


@pytest.mark.live
@pytest.mark.long
def test_a_site() -> None:
    """``make site``: each name has one of two servers behind dnsdist, and is collected once."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.demo.site", "--once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(
        r"^(\S+): server [12] has it, with 5 addresses; each .* once$", done.stdout, re.MULTILINE
    )
    assert found == ["www.bench.example", "mail.bench.example"]
    for command in ("dig @127.0.0.1 -p ", "status", "redis-cli -u redis://127.0.0.1:"):
        assert command in done.stdout

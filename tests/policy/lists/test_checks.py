"""What may stand in the configuration of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.policy.lists.checks import check_lists
from staggerdns.policy.lists.table import MAX_LISTS
from staggerdns.settings.document import ConfigError, Problems
from staggerdns.settings.policy import ListSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


def check(lists: Mapping[str, ListSettings]) -> None:
    """Raise what is wrong with lists."""
    problems = Problems()
    check_lists(lists, problems)
    if problems:
        raise ConfigError(*problems)


@pytest.mark.parametrize(
    "urls",
    [
        (),
        ("https://lists.example/hosts.txt", "https://lists.example/other.txt"),
        ("https://lists.example:8443/?a=b#c", "HTTPS://LISTS.example"),
        ("https://192.0.2.1:8443/", "https://lists.example./", "https://xn--bcher-kva.example/"),
        ("https://lists.example/a@b?c=d@e#@",),
        (f"https://{'a' * 63}.example/",),
    ],
)
def test_good_lists(urls: tuple[str, ...]) -> None:
    """Lists have files, URLs, or nothing yet."""
    check({"ads": ListSettings(urls=urls, files=("/etc/ads.txt", "ads.txt"))})


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("", ListSettings(), "lists: expected names"),
        ("a b", ListSettings(), "got 'a b'"),
        ("a\n", ListSettings(), r"got 'a\\n'"),
        ("a" * 65, ListSettings(), "at most 64"),
        ("ads", ListSettings(files=("/a", "/a")), r"lists.ads.files\[1\]: /a is there already"),
        ("ads", ListSettings(files=("",)), r"lists.ads.files\[0\]: expected a path"),
        ("ads", ListSettings(files=("a\0",)), r"lists.ads.files\[0\]: expected a path"),
    ],
)
def test_bad_lists(name: str, settings: ListSettings, why: str) -> None:
    """The place is named, and what was expected."""
    with pytest.raises(ConfigError, match=why):
        check({name: settings})


@pytest.mark.parametrize(
    "url",
    [
        *("", "lists.example", "http://lists.example/", "file:///etc/ads.txt", "https:///ads.txt"),
        *("https://lists.example:0/", "https://lists.example:65536/", "https://[::1/", "https://"),
        *("https://lists.example/a b", "https://b\u00fccher.example/", "https://a.example/\n"),
    ],
)
def test_bad_urls(url: str) -> None:
    """Nothing is fetched without TLS."""
    with pytest.raises(ConfigError, match=r"lists.ads.urls\[1\]: expected a URL like https://"):
        check({"ads": ListSettings(urls=("https://lists.example/", url))})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://[2001:db8::1]:8443/", "with a name or an IPv4 address"),
        (f"https://{'a' * 64}.example/", "too long"),
        ("https://lists..example/", "[Ee]mpty"),
        ("https://-x.example/", "hyphen"),
        ("https://a_b.example/", "not allowed"),
        ("https://xn--a.example/", "with the name of a server"),
        ("https://1.2.3/", "with the name of a server"),
        ("https://1.2.3.256/", "with the name of a server"),
        (f"https://{'a.' * 130}example/", "too long"),
    ],
)
def test_hosts_that_nothing_is_fetched_from(url: str, why: str) -> None:
    """The client would refuse them each time."""
    with pytest.raises(ConfigError, match=rf"lists.ads.urls\[0\]: expected a URL .*{why}"):
        check({"ads": ListSettings(urls=(url,))})


@pytest.mark.parametrize(
    "url", ["https://me:secret@a.example/", "http://secret@", "//:secret@[::/"]
)
def test_users(url: str) -> None:
    """What may be a password is not shown, neither here nor later."""
    with pytest.raises(ConfigError, match=r"lists.ads.urls\[0\]: .* under files$") as error:
        check({"ads": ListSettings(urls=(url,))})
    assert "secret" not in str(error.value)


def test_most_lists() -> None:
    """There may be so many, and no more."""
    lists = {f"n{number}": ListSettings() for number in range(MAX_LISTS)}
    check(lists)
    with pytest.raises(ConfigError, match=f"at most {MAX_LISTS} lists, got {MAX_LISTS + 1}"):
        check({**lists, "more": ListSettings()})

"""Directives that write the references out of the program, so that they cannot say anything else.

``settings-reference``
    every key of the configuration, section by section: its kind, limits and default as
    `staggerdns.settings` has them, and the docstring that stands under it there.

``profiles-reference``
    what each ``upstream.profile`` sets.

``metric:: NAME``
    one family: its type, labels and help as `staggerdns.metrics` declares them, and the text that
    is given here. A name that the program does not have is an error, and so is one without a
    description.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from docs._ext.declared import families, labels, profiles, read_sections
from staggerdns.settings import policy, sections, upstreams

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


class SettingsReference(SphinxDirective):
    """Writes the reference of the configuration."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        self.env.note_dependency(sections.__file__)
        self.env.note_dependency(upstreams.__file__)
        self.env.note_dependency(policy.__file__)
        try:
            text = "\n".join(self._lines())
        except LookupError as error:
            raise self.error(str(error)) from None
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    def _lines(self) -> Iterator[str]:
        for section in read_sections():
            if not section.keys and not section.path:
                continue
            yield from (f".. _settings-{section.path}:", "", section.path)
            text = section.text.removeprefix(f"``{section.path}``: ")
            yield from ("-" * len(section.path), "", text[:1].upper() + text[1:], "")
            for key in section.keys:
                yield from (f".. confval:: {key.path}", f"   :type: {key.kind}")
                yield from (f"   :default: {key.default}", "", textwrap.indent(key.text, "   "), "")


class ProfilesReference(SphinxDirective):
    """Writes the table of the profiles."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.env.note_dependency(upstreams.__file__)
        return self.parse_text_to_nodes("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        columns = profiles()
        yield from (".. list-table::", "   :header-rows: 1", "", "   * - Key")
        yield from (f"     - ``{name}``" for name in columns)
        for key in columns["balanced"]:
            yield f"   * - :confval:`{key} <upstream.parallel.{key}>`"
            yield from (f"     - {numbers[key]}" for numbers in columns.values())


class MetricReference(SphinxDirective):
    """Writes what there is to say about one family of metrics."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the description."""
        name = self.arguments[0]
        family = families().get(name)
        if family is None:
            raise self.error(f"the program has no metric {name}")
        _described(self.env).setdefault(self.env.docname, set()).add(name)
        shown = f"{name}{{{','.join(labels(family))}}}" if labels(family) else name
        lines = [f".. metric-family:: {shown}", "", f"   {family.type.capitalize()}."]
        lines += [f"   {family.documentation}.", "", *(f"   {line}" for line in self.content)]
        return self.parse_text_to_nodes("\n".join(lines))


def _described(env: BuildEnvironment) -> dict[str, set[str]]:
    """Return the names of the metrics that each page describes."""
    found: dict[str, set[str]] | None = getattr(env, "staggerdns_metrics", None)
    if found is None:
        found = env.staggerdns_metrics = {}  # type: ignore[attr-defined]  # where Sphinx has it kept
    return found


def _forget_page(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    _described(env).pop(docname, None)


def _merge_pages(
    app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment
) -> None:
    _described(env).update(_described(other))


def _check_all_described(app: Sphinx, env: BuildEnvironment) -> None:
    missing = families().keys() - set().union(*_described(env).values())
    if missing:
        raise ExtensionError(f"no page describes these metrics: {', '.join(sorted(missing))}")


def _lead_to_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let what links to files of the checkout, as pages from its top do, lead to their pages."""
    for node in doctree.findall(nodes.reference):
        page = re.fullmatch(r"docs/(\w+)\.rst", node.get("refuri", ""))
        if page is not None:
            if page[1] not in app.env.found_docs:
                raise ExtensionError(f"{docname}: there is no page docs/{page[1]}.rst")
            node["refuri"] = app.builder.get_relative_uri(docname, page[1])


def _stand_alone(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Leave out of a man page what only leads somewhere else, on the page or to another."""
    if app.builder.name != "man":
        return
    for topic in [*doctree.findall(nodes.topic)]:
        topic.parent.remove(topic)
    for node in [*doctree.findall(nodes.reference)]:
        if node.get("refuri", "").partition("#")[0] == "":
            node.replace_self(node.children)
    for body in doctree.findall(nodes.field_body):
        if not all(isinstance(child, nodes.Body) for child in body):  # they would share a line
            body[:] = [nodes.paragraph("", "", *body)]


def _parse_family(env: BuildEnvironment, text: str, node: Any) -> str:
    """Show name and labels of a family; what refers to it gives the name alone."""
    name, brace, inner = text.partition("{")
    node += [nodes.literal(text=name), nodes.inline(text=brace + inner)]
    return name


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx what there is here."""
    app.add_directive("settings-reference", SettingsReference)
    app.add_directive("profiles-reference", ProfilesReference)
    app.add_directive("metric", MetricReference)
    app.add_object_type("metric-family", "metric", "pair: %s; metric", _parse_family)
    app.connect("env-purge-doc", _forget_page)
    app.connect("env-merge-info", _merge_pages)
    app.connect("env-check-consistency", _check_all_described)
    app.connect("doctree-resolved", _lead_to_pages)
    app.connect("doctree-resolved", _stand_alone)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

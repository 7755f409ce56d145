"""A name is not markup: no page hands a foreign name to the browser as anything but text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from explorer.drawing.verbatim import verbatim
from explorer.frame.frame import PAGES
from helpers.hostile_names import ELSEWHERE, NAMES, build, renamed
from helpers.shared import Built
from linkage_core.store.entry import Store
from linkage_core.visible import visible

from .conftest import words

PLAIN = {
    *("id", "user_key", "key", "form_id", "active_script_hash", "element_hash"),  # never drawn
    *("options", "value", "default", "placeholder", "raw_value", "set_value"),  # of select boxes and inputs: text
    *("code_text", "alt", "url", "page_script_hash", "query_string", "url_path", "urls", "language"),
}
"""Fields that the browser draws as text or not at all. All others are taken for Markdown."""
WORDS_LINK = re.compile(r"methods\?word=[\w-]+")
TAGS_OF_CHARTS = {"extra", "b", "br", "i", "sup", "sub", "span"}
FOREIGN = re.compile("|".join(map(re.escape, (ELSEWHERE, "alert(1)", "forged", "calc", "__class__"))))


class Tags(HTMLParser):
    """The tags of a piece of HTML with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def bad_html(html: str) -> list[str]:
    """What in it runs, loads from elsewhere or leads there."""
    found = []
    for tag, attributes in Tags(html).found:
        if tag in {"script", "iframe", "base", "form", "link", "object", "meta", "svg", "math", "details"}:
            found.append(tag)
        for name, value in attributes.items():
            if name.startswith("on") or (
                name in ("src", "href", "action") and re.match(r"\s*(\w+:)?//|java", value or "")
            ):
                found.append(f"{tag} {name}={value}")
    return found


def bad_markdown(text: str) -> list[str]:
    """What in it is more than words, bold and code: found by a parser that is not the browser's."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        for part in [token, *(token.children or ())]:
            if part.type in ("image", "html_inline", "html_block", "table_open", "s_open", "fence", "code_block"):
                found.append(part.type)
            if part.type == "link_open" and not WORDS_LINK.fullmatch(str(part.attrs["href"])):
                found.append(f"link to {part.attrs['href']}")
    text = text.removeprefix(":gray-badge[:material/folder_open: ")
    if FOREIGN.search(text):
        found += re.findall(r"(?<!\\):[a-z-]+\[|(?<!\\)\$\S|(?<![\\*])\*\*bold|(?<!\\)`", text)
    return found


def strings(message: Message, path: str = "") -> Iterator[tuple[str, str]]:
    """(field, text) of everything that is sent for one element."""
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if isinstance(one, Message):
                yield from strings(one, f"{path}.{field.name}")
            elif isinstance(one, str):
                yield f"{path}.{field.name}", one


def leaves(content: Any) -> Iterator[str]:
    """Every text in JSON."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for name, one in content.items() if isinstance(content, dict) else enumerate(content):
            if name != "customdata":  # what a click tells; never drawn
                yield from leaves(one)


def nodes(block: Any) -> Iterator[Any]:
    for child in block.children.values():
        yield child
        if hasattr(child, "children"):
            yield from nodes(child)


def faults(app: AppTest) -> list[tuple[str, str]]:
    """(place, what) of every text on the page that the browser would take for more than text."""
    found = []
    for node in [one for root in app._tree.children.values() for one in [root, *nodes(root)]]:
        proto = getattr(node, "proto", None)
        if not isinstance(proto, Message):
            continue
        kind = str(node.type)
        for field, text in strings(proto):
            name = field.rsplit(".", 1)[1]
            if kind == "html":
                bad = bad_html(text) if name == "body" else []
            elif kind == "plotly_chart" and name == "spec":
                spec = json.loads(text)
                bad = [
                    f"{tag} in {one[:60]}"
                    for one in leaves(spec)
                    for tag, _ in Tags(one).found
                    if tag not in TAGS_OF_CHARTS
                ]
            elif name in PLAIN or kind in ("bidi_component", "code", "arrow_data_frame") or name in ("json", "spec"):
                bad = []
            else:
                bad = bad_markdown(text)
            found += [(f"{kind}{field}", one) for one in bad]
    return found


@pytest.fixture(scope="module")
def ward(built: Built) -> Path:
    return built(build)


@pytest.mark.parametrize("page", [file for rows in PAGES.values() for file, _, _ in rows])
def test_no_page_takes_a_name_for_markup(
    page: str, ward: Path, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With report text on."""
    monkeypatch.setattr("explorer.frame.state.show_text", lambda: True)
    app = open_page(page, store=ward, cohort="ward", N=10)
    assert not app.exception, app.exception
    assert faults(app) == []


def test_a_note_of_a_head_and_a_running_title_are_no_markup(
    ward: Path, open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from explorer.protect import jobs, one_head

    monkeypatch.setattr(one_head, "delta_note", lambda at: " ".join(NAMES))
    monkeypatch.setattr(jobs, "listed", lambda: [jobs.Job("another", " ".join(NAMES))])
    for page in ("mitigation", "data"):
        app = open_page(page, store=ward, cohort="ward")
        assert not app.exception, app.exception
        assert faults(app) == []
        assert ELSEWHERE in words(app) + "".join(one.proto.text for one in app.get("progress")), "it is said"


def test_a_folder_that_is_called_so_is_no_markup(ward: Path, tmp_path: Path, open_page: Callable[..., AppTest]) -> None:
    """Folders are named by this program, but a store may come from elsewhere."""
    name = f"![c](http:&#47;&#47;{ELSEWHERE}) :red[x]"
    (tmp_path / name).symlink_to(ward / "ward")
    app = open_page("start", store=tmp_path, cohort=name)
    assert name in {option for box in app.selectbox for option in box.options}
    assert faults(app) == []


def test_the_walk_sees_what_it_should(ward: Path, open_page: Callable[..., AppTest], monkeypatch: Any) -> None:
    """Without the function the same walk finds images, links and colours."""
    monkeypatch.setattr("explorer.frame.controls.verbatim", str)
    monkeypatch.setattr("explorer.frame.frame.verbatim", str)
    found = {what for _, what in faults(open_page("start", store=ward, cohort="ward"))}
    assert "image" in found
    assert bad_markdown(f":red[x] {ELSEWHERE}")
    assert bad_html("<img src=x onerror=alert(1)>")


def test_what_is_verbatim_is_words_for_another_parser_too() -> None:
    for name in NAMES:
        shown = verbatim(name)
        assert bad_markdown(shown) == [], name
        inline = MarkdownIt("commonmark").render(f"x{shown}")
        assert not Tags(inline.replace("<p>", "")).found, name


def test_a_name_made_elsewhere_keeps_its_letters(tmp_path: Path, ward: Path) -> None:
    entry = Store(ward).open("ward", "m0")
    assert renamed(entry, entry.manifest["model"]["name"]).manifest["model"]["name"] == " ".join(NAMES[0::4])
    assert [visible(name) for name in NAMES if name.isprintable()] == [name for name in NAMES if name.isprintable()]

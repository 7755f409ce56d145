"""A foreign name in Streamlit's labels, captions and tooltips, all of which are Markdown: shown, never read."""

from __future__ import annotations

import re

from linkage_core.visible import visible

_MARKS = re.compile(r"[\\`*_{}\[\]<>#|$~&:]")
"""What Markdown, its tables and its maths, and Streamlit's colours (:red[...]) give a meaning to."""
_JOINER = "\u2060"
"""Word joiner: it draws nothing and breaks no line, and parts what is looked for in finished text too."""
_PARTED = re.compile(
    r"(?<=:)(?=//)"  # https://host
    r"|(?<=www)(?=\.)"
    r"|(?<=@)(?=[\w-])"  # an e-mail address
    r"|(?<=:)(?=[\w+/-]+:)"  # :emoji:, :material/icon:, :streamlit:
    r"|(?<=[<~>=-])(?=[=>-])"  # -> and the like, which become arrows
    r"|^(?=\s|=|(?:[-+]|\d+[.)])(?:\s|$)|--)",  # a list, or code by its indent
    re.IGNORECASE,
)


def verbatim(text: object) -> str:
    r"""Markdown that shows the text letter by letter, in one line.

    >>> verbatim("CLIP (2)"), verbatim("![m](http://host/x)").replace(_JOINER, "|")
    ('CLIP (2)', '!\\[m\\](http\\:|//host/x)')
    """
    return _MARKS.sub(r"\\\g<0>", _PARTED.sub(_JOINER, visible(text)))

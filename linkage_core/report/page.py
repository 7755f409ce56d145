"""A report as one HTML file: the template, the charts as SVG, and nothing fetched; and as JSON, which is the tree."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from linkage_core.report import draw
from linkage_core.report.tree import Bars, Curves, Report, as_json, cell

TEMPLATE = "report.html.j2"


def html(report: Report) -> str:
    """The document; every text in it is escaped."""
    return _template().render(report=report)


def twin(report: Report) -> str:
    """The same as JSON: figures as numbers, NaN as null."""
    return json.dumps(as_json(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(cell=cell, chart=_chart, kind=lambda block: type(block).__name__.lower())
    return environment.get_template(TEMPLATE)


def _chart(block: Curves | Bars) -> str:
    """SVG whose words draw.py has escaped."""
    return draw.curves(block) if isinstance(block, Curves) else draw.bars(block)

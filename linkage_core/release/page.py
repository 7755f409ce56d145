"""`release.html`: the certificate for a person who has two minutes. One file, nothing fetched, every value escaped."""

from __future__ import annotations

import html
from typing import Any

from linkage_core.release.certificate import TRIES, Certificate, shown
from linkage_core.release.records import TABLE
from linkage_core.release.table import kind_of

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5a6675;--line:#d9dfe6;--ground:#f6f7f9;--card:#fff;--accent:#0b6b74;
--wash:#e6f2f3;--stop:#9b2c1f;--stopwash:#fbeeec}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa7b6;--line:#2f3945;--ground:#12171d;--card:#1a2129;
--accent:#5cc3cc;--wash:#17303a;--stop:#f0937f;--stopwash:#33201d}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:54rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
header p{margin:.2rem 0;color:var(--soft)}
h1{font-size:1.7rem;line-height:1.25;margin:.2rem 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.05rem;margin:2.2rem 0 .6rem}
.limit{background:var(--wash);border-left:4px solid var(--accent);border-radius:6px;padding:1.1rem 1.3rem;
margin:1.5rem 0}
.limit p{margin:.5rem 0}.limit p:first-child{font-size:1.18rem;line-height:1.45;margin-top:0}
.limit.none{background:var(--stopwash);border-color:var(--stop)}
.tag{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:.05rem .7rem;margin:0 .4rem .3rem 0;
font-size:.85rem;color:var(--soft);background:var(--card)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line);border-radius:6px}
th,td{text-align:left;padding:.5rem .8rem;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}
th{font-weight:600;font-size:.88rem;color:var(--soft)}
.figures td,.figures th{text-align:right;font-variant-numeric:tabular-nums}
.figures td:first-child,.figures th:first-child{text-align:left}
.figures small{color:var(--soft);display:block}
ul{margin:.3rem 0;padding-left:1.2rem}li{margin:.25rem 0}
.never{background:var(--stopwash);border-radius:6px;padding:.8rem 1.1rem}.never ul{margin:0}
code,pre{font:.88rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.8rem 1rem;overflow-x:auto;
margin:.5rem 0}
.sums code{overflow-wrap:anywhere;font-size:.8rem}
.note{color:var(--soft);font-size:.92rem}
@media print{body{background:#fff}main{padding:0}}
"""


def render(made: Certificate) -> str:
    """The page of a certificate whose data files are described; without scripts, pictures or links."""
    content = made.content
    cohort = content["cohort"]
    tags = [made.kind, f"{cohort['name']} / {cohort['model']}", f"head {cohort['head']}"]
    tags += ["synthetic"] * made.synthetic + ["not private"] * bool(content["reproducible"])
    first, *others = content["sentences"]
    certified = content["certified"][0]["alone"] is not None
    parts = [
        "<header><p>Release with a certificate · Linkage Explorer</p>",
        f"<h1>{_text(kind_of(made.kind).heading(content))}</h1>",
        "<p>" + "".join(f'<span class="tag">{_text(tag)}</span>' for tag in tags) + "</p></header>",
        f'<section class="limit{"" if certified else " none"}"><p>{_text(first)}</p>',
        *(f'<p class="note">{_text(one)}</p>' for one in others),
        "</section>",
        "<h2>How often could somebody be right?</h2>",
        _figures(content) if certified else "<p>No figure is certified for this release.</p>",
        f'<p class="note">For whom: {_text(content["holds_for"])}</p>' if certified else "",
        "<h2>What is in this folder</h2>",
        _files(content),
        *(["<h2>What the limit rests on</h2>", _list(content["assumptions"])] if certified else []),
        "<h2>What must never be added</h2>",
        f'<div class="never">{_list(content["must_not_travel_along"])}</div>',
        '<p class="note">A further column or file makes the check fail: it would be another release.</p>',
        "<h2>How to use it</h2>",
        f"<pre>{_text(chr(10).join(content['use']))}</pre>",
        f'<p class="note">{_text(_how(content))}</p>',
        "<h2>Where it is entered</h2>",
        f"<p>{_text(_ledger(content))}</p>",
        '<p class="note">Made with '
        f"{_text(', '.join(f'{name} {version}' for name, version in sorted(content['versions'].items())))}.</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(kind_of(made.kind).heading(content))}</title><style>{_STYLE}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _figures(content: dict[str, Any]) -> str:
    """N, and of 10,000 tries how many can be right."""
    names = {name: f"at most, {words}" for name, words in shown(content).items()}
    head = "".join(f"<th>{_text(one)}</th>" for one in ("N candidates", "guessing", *names.values()))
    rows = []
    for row in content["certified"]:
        cells = [f"{row['n']:,}", _of_tries(row["guessing"])]
        cells += [f"{_of_tries(row[name])}<small>{_times(row[name + '_lift'], row['n'])}</small>" for name in names]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<p class="note">Right answers in {TRIES:,} tries, the right report being among N equally likely ones.</p>'
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def _of_tries(rate: float) -> str:
    tries = rate * TRIES
    return f"{tries:,.0f}" if tries >= 10 or tries == round(tries) else f"{tries:.1f}"


def _times(lift: float, n: int) -> str:
    return "no limit at this N" if lift >= n * (1 - 1e-9) else f"{float(f'{lift:.3g}'):,g} × guessing"


def _files(content: dict[str, Any]) -> str:
    rows, kind = [], kind_of(content["kind"])
    words = dict(kind.files)
    if kind.column is not None:
        words[TABLE] = f"one row a record: an opaque number and {kind.column.words}"
    for name, said in sorted(content["files"].items()):
        what = words.get(name, "")
        if name == TABLE and content["one_label"]:
            what += (
                f", and whether one of {len(content['one_label']['findings'])} findings, drawn at random, is present"
            )
        rows.append(
            f"<tr><td><code>{_text(name)}</code><br><span class='note'>{_text(what)}</span></td>"
            f"<td>{said['bytes']:,} bytes</td><td class='sums'><code>{_text(said['sha256'])}</code></td></tr>"
        )
    rows.append(
        "<tr><td><code>certificate.json</code><br><span class='note'>this page for machines, with its own digest</span>"
        "</td><td></td><td></td></tr>"
    )
    return (
        f"<p>{_text(kind.words[0].upper() + kind.words[1:])}.</p>"
        '<div class="scroll"><table><thead><tr><th>file</th><th>size</th><th>sha256</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _how(content: dict[str, Any]) -> str:
    """What the lines above it do."""
    if len(content["use"]) == 1:
        return (
            "It checks every file and figure; DIR is this folder. There is nothing in it to train on: read the vectors "
            "with any Parquet reader."
        )
    return (
        "The first line checks every file and figure; the second trains a reader of findings from this folder alone "
        "and tests it on your own embeddings. DIR is this folder; COHORT/MODEL stands in your store."
    )


def _ledger(content: dict[str, Any]) -> str:
    entry = content["ledger"]
    if entry is None:
        return "In no ledger: nobody counts what else was released of these patients. This is about this folder alone."
    return (
        f"Entry {entry['entry']} of the site's ledger, digest {entry['digest']}. The site can confirm it: "
        "linkage ledger confirm LEDGER DIR."
    )


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(value: object) -> str:
    return html.escape(str(value))

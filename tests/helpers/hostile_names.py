"""300 names of which each would do something if anybody read it as more than a name."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from helpers.toy import toy_cohort, two_each
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import write_manifest

ELSEWHERE = "beacon.invalid"
"""The host that many of the names would have asked."""
_URL = f"http://{ELSEWHERE}/x"
_CORES = (
    # Markdown: what loads, links, hides and changes
    *(f"![m]({_URL})", f"[![m]({_URL})](javascript:alert(1))", f"![r][1] [1]: {_URL}", f"[go]({_URL})", f"<{_URL}>"),
    *(_URL, f"www.{ELSEWHERE}", f"me@{ELSEWHERE}", "**bold**", "__bold__", "*it*", "~~gone~~", "`code`", "```", "~~~"),
    *("# big", "> quoted", "- item", "1. item", "    indented", "| a | b |", "[ ] todo", "[^1]", "---", "***", "\\*a*"),
    *("$x^2$", rf"$\href{{{_URL}}}{{a}}$", "$$x$$", ":red[r]", ":red-background[r]", ":small[s]", ":blue-badge[b]"),
    *(":material/home:", ":material_home:", ":streamlit:", ":bomb:", ":+1:", "a -> b", "a <-> b", "a -- b", "a >= b"),
    *(f"![m](http:&#47;&#47;{ELSEWHERE}/x)", "&lt;b&gt;", "&#x3c;img src=x&#x3e;", "&amp;amp;", "::: note", ":a{b=c}"),
    # HTML
    *(
        f"<img src={_URL}>",
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        f"<script src={_URL}></script>",
    ),
    *(
        f"<iframe src={_URL}></iframe>",
        "<svg onload=alert(1)>",
        f"<base href={_URL}>",
        f"<form action={_URL}>",
        "</div>",
    ),
    *(f"<style>@import '{_URL}'</style>", f"<link rel=stylesheet href={_URL}>", f"<object data={_URL}>", "<!--", "-->"),
    *(
        f"<meta http-equiv=refresh content='0;url={_URL}'>",
        "<a href=javascript:alert(1)>a</a>",
        '" onload=alert(1) x="',
    ),
    *("' onload='alert(1)", "<math><mtext></mtext></math>", "<details open ontoggle=alert(1)>", "<b>b</b>", "<br>"),
    # the terminal
    *(
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\x1b]52;c;ZXZpbA==\x07",
        f"\x1b]8;;{_URL}\x1b\\link\x1b]8;;\x1b\\",
        "\x9b2J",
    ),
    *("a\rb", "a\nb", "a\r\nError: forged", "a\bb", "\x00", "\x07", "\x7f", "\x0b\x0c", "a\u2028b", "\u202egnp.exe"),
    *(
        "\u2066x\u2069",
        "\u200eab",
        "\u200b",
        "[bold]b[/bold]",
        "[/b]",
        "\\[/b]",
        f"[link={_URL}]l[/link]",
        "[@click=a]c",
    ),
    *("[", "]", "\\", "[red", "[/]", "[[]]", "\\\\[/x]", "[not bold]"),
    # templates, formats, spreadsheets, shells, paths
    *("{{7*7}}", "{0}", "{a.__class__}", "%s%n", "${HOME}", "$(id)", "`id`", "; id", "=1+1", "+1", "-1", "@SUM(1)"),
    *("=cmd|' /C calc'!A0", "../../etc/passwd", "a/b", "C:\\x", "?model=x&cohort=y", "#top", "%2e%2e", "None", "nan"),
)
_AROUND = ("{}", "a {} b", "{}{}")


def _all() -> tuple[str, ...]:
    """First each by itself, then among words and twice, until there are 300."""
    names = dict.fromkeys(
        around.replace("{}", core) for around, core in itertools.product(_AROUND, _CORES)
    )  # not by format: some have braces
    return tuple(itertools.islice(names, 300))


NAMES = _all()


def renamed(entry: Entry, name: str) -> Entry:
    """The entry as if a store made elsewhere called its model and the source of its labels so."""
    content = {key: value for key, value in entry.manifest.items() if key not in ("schema", "versions", "files")}
    content["model"] = {**content["model"], "name": name}
    content["cohort"] = {**content["cohort"], "labels": {"source": "own", "own": name}}
    write_manifest(entry.path, {**content, "keep": set(entry.manifest["files"])})
    return Store(entry.path.parent.parent).open(entry.cohort, entry.model)


def build(root: Path) -> Path:
    """`ward`, with ids, views and reports of such names, and four models that share all of them as theirs."""
    rng = np.random.default_rng(0)
    n_patients = len(NAMES) // 2
    records = two_each("ward", n_patients)
    records["patient_id"] = [f"{NAMES[2 * (i // 2)]} p{i // 2}" for i in records.index]
    records["study_id"] = [f"{name} s{i}" for i, name in enumerate(NAMES)]
    records["record_id"] = [f"{name} r{i}" for i, name in enumerate(NAMES)]
    records["report"] = [f"Report {i} says {name}." for i, name in enumerate(NAMES)]
    records["view"] = np.where(records.index % 3 == 0, NAMES[0], NAMES[53])
    records["split"] = np.array(["heldout", "attacker", "finetune"])[records.index // 2 % 3]
    for label in LABELS:
        records[label] = rng.integers(0, 2, n_patients).repeat(2).astype(float)
    cohort = toy_cohort("ward", records)
    texts = rng.standard_normal((len(records), 16)).astype(np.float32)
    store = Store(root)
    for i in range(4):
        images = texts + rng.standard_normal(texts.shape).astype(np.float32)
        import_arrays(cohort, f"m{i}", images, texts, store, store_text=True)
        renamed(store.open("ward", f"m{i}"), " ".join(NAMES[i::4]))
    return root

"""The ranked list as it is sent: on the head's own scale, as text, and nothing of a hidden text or match."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from explorer.examples import first_in, ranked, strip, viewer
from linkage_core.audit.examples import Scale
from linkage_core.images.pixels import Radiograph

HOSTILE = [
    "<script>window.hit = 1</script>",
    '<img src=x onerror="window.hit = 1">',
    "\"><svg/onload='window.hit=1'>",
    "**bold** [link](https://example.org) ![](https://example.org/x.png)",
    "&lt;b&gt; &amp; </bdi></summary></details></li><h1>out</h1>",
    "\u202eesrever \u2066isolated",
]


def card(rank=1, similarity=0.4, text="Clear lungs.", **more):
    given = {"key": f"k{rank}", "is_match": False, "n_identical": 0, "words": 2, **more}
    return ranked.Card(rank=rank, similarity=similarity, text=text, **given)


def view(cards, **more):
    given = {"image": "a", "caption": "Ranked by X", "rank": 3, "pool_size": 100, "first_in": 0.29, "n_shown": 4}
    return ranked.RankedView(cards=cards, **{"scale": Scale(-0.5, 0.5), **given, **more})


class Reader(HTMLParser):
    """The elements of a piece of HTML, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_report_text_stays_text(text):
    """As it is but for the marks that turn letters around: the browser makes a text node of it, never markup."""
    (sent,) = ranked.payload(view([card(text=text)]))["cards"]
    assert sent["text"] == re.sub("[\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
    script = (Path(ranked.__file__).parent / "components" / "list.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTML", script)


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_of_html_are_escaped(text):
    for html in (ranked.facts([(text, text)]), ranked.note(text)):
        read = Reader(html)
        assert set(read.elements) <= {"dl", "div", "dt", "dd", "bdi", "p"}
        assert re.sub("[\u202a-\u202e\u2066-\u2069]", "\ufffd", text) in read.words


@pytest.mark.parametrize(
    ("similarity", "share", "number"),
    [(0.25, 0.75, "0.25"), (0.004, 0.504, "0.00"), (-0.2, 0.3, "−0.20"), (-0.9, 0.0, "−0.90"), (0.7, 1.0, "0.70")],
)
def test_bars_lie_on_the_scale_of_the_head_whatever_else_is_shown(similarity, share, number):
    for cards in ([card(similarity=similarity)], [card(similarity=similarity), card(rank=2, similarity=0.95)]):
        sent = ranked.payload(view(cards))
        assert (sent["cards"][0]["share"], sent["cards"][0]["number"]) == (share, number)
        assert sent["zero"] == 0.5
    assert ranked.payload(view([], scale=Scale(0.1, 0.2)))["zero"] is None


def test_a_third_decimal_where_two_say_nothing():
    sent = ranked.payload(view([card(similarity=-0.0016), card(rank=2, similarity=-0.0019)], scale=Scale(-0.1, 0.1)))
    assert [one["number"] for one in sent["cards"]] == ["−0.002", "−0.002"]
    assert sent["scale"] == ["−0.100", "0.100"]
    sent = ranked.payload(view([card(similarity=0.412), card(rank=2, similarity=0.408)]))
    assert [one["number"] for one in sent["cards"]] == ["0.412", "0.408"]


def test_the_true_report_is_marked_and_says_how_many_are_left_out():
    cards = [card(rank=rank) for rank in (1, 2, 3)] + [card(rank=34, is_match=True, n_identical=36)]
    sent = ranked.payload(view(cards, rank=34, n_hidden_above=30))
    assert [one["true"] for one in sent["cards"]] == [False, False, False, True]
    assert sent["cards"][3]["gap"] == "… 30 more reports score higher …"
    assert sent["cards"][3]["tags"] == ["and 36 identical reports"]
    assert sent["head"] == ["The true report is ", "number 34", " of 100"]
    assert sent["second"] == "First in 29 of 100 random pools of this size. Guessing: 1."
    one = ranked.payload(view([card(rank=2, is_match=True, n_identical=1)], n_hidden_above=1))["cards"][0]
    assert one["gap"] == "… 1 more report scores higher …"
    assert one["tags"] == ["and 1 identical report"]


def test_a_hidden_match_looks_like_any_other():
    as_match, as_other = (
        ranked.payload(view([card(is_match=match)], hidden=True, n_hidden_above=7 * match)) for match in (True, False)
    )
    assert as_match == as_other
    assert "number" not in as_match["head"][1]


def test_a_card_without_text_keeps_rank_bar_and_length():
    (sent,) = ranked.payload(view([card(rank=7, text=None, words=1234, absent="Hidden <here>.")]))["cards"]
    assert sent["text"] is None
    assert sent["absent"] == "1,234 words. Hidden <here>."
    assert (sent["rank"], sent["number"]) == ("7", "0.40")
    json.dumps(sent)


# -- the chance of coming first --------------------------------------------------------------------------------------


def test_a_line_ends_where_it_leaves_the_picture():
    shown = first_in.cut([10, 100, 1000, 10_000], [0.9, 0.1, 1e-7, 0.0])
    assert shown[:2] == [(10, 0.9), (100, 0.1)]
    assert len(shown) == 3
    assert shown[2][1] == first_in.LEAST
    assert 100 < shown[2][0] < 1000
    assert first_in.cut([2, 5], [0.5, 0.0])[-1][0] < 5
    assert first_in.cut([2, 5], [0.0, 0.0]) == []


@pytest.mark.parametrize("largest", [2, 3, 22, 10_490])
def test_the_picture_holds_for_any_pool(largest):
    from explorer.drawing.palette import DARK

    sizes = first_in.steps(largest)
    lines = [
        first_in.Line("before", [1 / n for n in sizes], "#000000"),
        first_in.Line("<b>", [0.0] * len(sizes), "#fff000"),
    ]
    figure = first_in.picture(sizes, lines, sizes[-1], DARK)
    assert [trace.name for trace in figure.data][:2] == ["guessing", "before"]
    assert "<b><b></b>" not in {note.text for note in figure.layout.annotations}
    assert first_in.in_words(sizes, lines, sizes[-1]).count("at N = ") == 2 * len({sizes[0], sizes[-1]})


# -- the row of thumbnails, and the payload of the viewer ------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 5, 24, 25, 100])
def test_the_row_always_holds_the_current_image_and_its_neighbours(n):
    start = None
    rng = np.random.default_rng(0)
    for at in [*range(n), *reversed(range(n)), *rng.integers(0, max(n, 1), 200 if n else 0)]:
        start = strip.window(int(at), n, start)
        inside = range(start, min(start + strip.LENGTH, n))
        assert {at, max(at - 1, 0), min(at + 1, n - 1)} <= set(inside)
        assert 0 <= start <= max(0, n - strip.LENGTH)


def test_choosing_within_the_row_does_not_move_it():
    assert {strip.window(at, 100, 40) for at in range(41, 40 + strip.LENGTH - 1)} == {40}
    assert strip.window(0, 3, 0) == strip.window(2, 3, 0) == 0


@pytest.mark.parametrize(("bits", "bytes_each"), [(8, 1), (12, 2), (16, 2)])
def test_pixels_travel_at_the_depth_the_source_has(bits, bytes_each):
    import json

    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    payload = viewer.pack(Radiograph(pixels, bits), image="a", caption="c", alt="d")
    length = int.from_bytes(payload[:4], "little")
    header, body = json.loads(payload[4 : 4 + length]), payload[4 + length :]
    assert (header["height"], header["width"], header["bits"], header["detail"]) == (3, 4, 8 * bytes_each, False)
    sent = np.frombuffer(body, "u1" if bytes_each == 1 else "<u2").reshape(3, 4)
    assert np.array_equal(sent, pixels >> 8 if bytes_each == 1 else pixels)
    larger = viewer.pack(Radiograph(np.zeros((40, 20), np.uint16), bits), image="a", caption="c", alt="d", side=16)
    assert json.loads(larger[4 : 4 + int.from_bytes(larger[:4], "little")])["detail"] is True

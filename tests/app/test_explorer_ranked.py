"""The ranked list as HTML: escaped, never rescaled, and nothing of a hidden text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from explorer.examples import ranked, strip, viewer
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
    given = {"is_match": False, "n_identical": 0, "words": 2, **more}
    return ranked.Card(rank=rank, similarity=similarity, text=text, **given)


def view(cards, **more):
    given = {"caption": "Ranked by X", "rank": 3, "pool_size": 100, "first_in": 0.29, **more}
    return ranked.RankedView(cards=cards, **given)


class Reader(HTMLParser):
    """Elements, attributes and visible text of a piece of HTML; fails where elements are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("n_lists", [1, 2])
def test_report_text_stays_text(text, n_lists):
    plain = Reader(ranked.ranked_lists([view([card(text="x" * len(text))])] * n_lists))
    read = Reader(ranked.ranked_lists([view([card(text=text)])] * n_lists))
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in plain.elements]
    assert [attributes for _, attributes in read.elements] == [attributes for _, attributes in plain.elements]
    kept = re.sub("[\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
    assert kept in read.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", read.text)


@pytest.mark.parametrize("text", HOSTILE)
def test_captions_facts_and_notes_are_escaped_too(text):
    for html in (ranked.facts([(text, text)]), ranked.note(text), ranked.ranked_lists([view([], caption=text)])):
        assert {tag for tag, _ in Reader(html).elements} <= {
            "dl",
            "div",
            "dt",
            "dd",
            "bdi",
            "p",
            "section",
            "h3",
            "span",
            "b",
            "ol",
        }


@pytest.mark.parametrize(
    ("similarity", "width", "number"),
    [(0.46, "46.0%", "0.46"), (0.004, "0.4%", "0.00"), (-0.2, "0.0%", "−0.20"), (1.0000002, "100.0%", "1.00")],
)
def test_bars_run_from_0_to_1_and_are_never_rescaled(similarity, width, number):
    alone = Reader(ranked.ranked_lists([view([card(similarity=similarity)])]))
    beside = Reader(ranked.ranked_lists([view([card(similarity=similarity), card(similarity=0.9)])]))
    for read in (alone, beside):
        fills = [attributes["style"] for _, attributes in read.elements if attributes.get("class") == "lx-fill"]
        assert fills[0] == f"width:{width}"
        assert number in read.words


def test_the_true_report_has_words_and_a_tick_and_says_how_many_are_left_out():
    cards = [card(rank=rank) for rank in (1, 2, 3)] + [card(rank=34, is_match=True, n_identical=36)]
    read = Reader(ranked.ranked_lists([view(cards, rank=34, n_hidden_above=30)]))
    words = " ".join(read.words)
    assert words.count("✓ the true report") == 1
    assert words.index("30 more reports score higher") < words.index("✓ the true report")
    assert "and 36 identical reports" in words
    assert "The true report is" in words
    assert "number 34" in words
    assert "First in 29 of 100 random pools of this size. Guessing: 1." in words
    assert "score higher" not in Reader(ranked.ranked_lists([view(cards)])).text
    one = Reader(ranked.ranked_lists([view([card(rank=2, is_match=True, n_identical=1)], n_hidden_above=1)])).text
    assert "1 more report scores higher" in one
    assert "and 1 identical report" in one
    assert "reports" not in one


def test_a_card_without_text_keeps_rank_bar_and_length():
    read = Reader(ranked.ranked_lists([view([card(rank=7, text=None, words=1234, absent="Hidden <here>.")])]))
    assert "1,234 words. Hidden <here>." in read.text
    assert "7" in read.words
    assert "lx-fill" in {attributes.get("class") for _, attributes in read.elements}


def test_long_texts_open_and_hold_everything_once():
    text = "Opacity in the right lower zone. " * 30
    read = Reader(ranked.ranked_lists([view([card(text=text)])]))
    assert "details" in {tag for tag, _ in read.elements}
    assert read.text.count(text.strip()) == 1
    short = Reader(ranked.ranked_lists([view([card(text="Normal.")])]))
    assert "details" not in {tag for tag, _ in short.elements}


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

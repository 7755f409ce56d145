"""SentencePiece tables without sentencepiece, from messages written here byte by byte. Against it: tests/parity."""

import json
import struct

import numpy as np
import pytest

from helpers.tiny_checkpoints import LIMIT, write_siglip
from linkage_core.encoders.pieces import read_pieces
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import ModelError

PIECES = [
    ("</s>", 0.0),
    ("<unk>", -9.0),
    *[(x, -2.0) for x in "▁abcdefghijklmnopqrstuvwxyz"],
    ("▁the", -1.0),
    ("ung", -1.5),
]
"""Those of `write_siglip`'s tokenizer.json."""


def varint(value):
    low = [value >> shift & 127 for shift in range(0, max(7, value.bit_length() + 6) // 7 * 7, 7)]
    return bytes([part | 128 for part in low[:-1]] + low[-1:])


def block(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field, value):
    return varint(field << 3) + varint(value)


def table(kind=1, pieces=PIECES, prefix=1):
    rows = [block(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) for text, score in pieces]
    trainer = number(3, kind) + number(40, 1)
    normaliser = block(1, b"identity") + number(3, prefix) + number(4, 1)
    return b"".join(block(1, row) for row in rows) + block(2, trainer) + block(3, normaliser)


def write(folder, content):
    write_siglip(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(content)
    return folder


def test_a_model_with_spiece_alone_gives_what_it_gives_with_the_same_pieces_compiled(tmp_path):
    plain = load_encoder(f"hf:{write_siglip(tmp_path / 'compiled')}", store_root=tmp_path, device="cpu")
    pieces = load_encoder(f"hf:{write(tmp_path / 'pieces', table())}", store_root=tmp_path, device="cpu")
    texts = ["The lung, the LUNGS.", "", "  no acute\nprocess ", "the " * 100]
    np.testing.assert_array_equal(pieces.text_features(texts), plain.text_features(texts))
    assert pieces.truncated(texts) == plain.truncated(texts) == 1
    assert pieces.text_limit == LIMIT


def test_the_settings_of_the_file_count(tmp_path):
    front = read_pieces("x", write(tmp_path / "a", table()))("the lung")["input_ids"]
    none = read_pieces("x", write(tmp_path / "b", table(prefix=0)))("the lung")["input_ids"]
    names = [text for text, _ in PIECES]
    assert [names[code] for code in front] == ["▁the", "▁", "l", "ung", "</s>"]
    assert [names[code] for code in none] == ["t", "h", "e", "▁", "l", "ung", "</s>"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "cannot be read"),
        (table()[:-5], "cannot be read"),
        (b"\xff" * 40, "cannot be read"),
        (table(kind=2), "no plain unigram model"),
        (table(pieces=PIECES[1:]), "no piece '</s>'"),
    ],
    ids=["empty", "cut", "endless", "another kind", "no end"],
)
def test_a_damaged_or_other_file_is_named(tmp_path, content, named):
    with pytest.raises(ModelError, match=named):
        read_pieces("x", write(tmp_path / "model", content))


def test_special_tokens_with_their_properties_are_understood(tmp_path):
    folder = write(tmp_path / "model", table())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["eos_token"] = {"content": "</s>", "lstrip": True, "__type": "AddedToken"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_pieces("x", folder)("a")["input_ids"][-1] == 0

"""SentencePiece models without the package sentencepiece: their tables, read from spiece.model.

The file is one protocol-buffers message (sentencepiece_model.proto): pieces with score and kind, the trainer's settings
and the normaliser's, of which the table of replacements is handed on as it is.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from linkage_core.encoders.hub import read_json
from linkage_core.errors import ModelError

FILE = "spiece.model"
_PIECES, _TRAINER, _NORMALISER = 1, 2, 3  # fields of the message
_TEXT, _SCORE = 1, 2  # of a piece
_KIND, _UNIGRAM, _BYTES, _UNKNOWN = 3, 1, 35, 40  # of the trainer: model type, whether bytes stand in, unknown's place
_TABLE, _PREFIX, _SPACES = 2, 3, 4  # of the normaliser: replacements, a space in front, single spaces
_VARINT, _FIXED64, _BLOCK, _FIXED32 = 0, 1, 2, 5  # of the wire


def read_pieces(name: str, folder: Path) -> PreTrainedTokenizerFast:
    """The tokeniser of a folder that has spiece.model and no tokenizer.json; the end mark stands after each text.

    Raises ModelError: a damaged file, or one of another kind than unigram pieces.
    """
    path = folder / FILE
    try:
        message = _fields(path.read_bytes())
        pieces = [_fields(piece) for piece in message[_PIECES]]
        table = [(piece[_TEXT][0].decode(), struct.unpack("<f", piece[_SCORE][0])[0]) for piece in pieces]
        trainer, normaliser = _fields(message[_TRAINER][0]), _fields(message[_NORMALISER][0])
    except (OSError, ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        raise ModelError(f"{name}: {path} cannot be read.", "Download or copy it again.") from error
    if trainer.get(_KIND, [_UNIGRAM])[0] != _UNIGRAM or trainer.get(_BYTES, [0])[0]:
        raise ModelError(f"{name}: {path} is no plain unigram model.", "Give the model's folder a tokenizer.json.")
    settings = read_json(folder / "tokenizer_config.json")
    end = _written(settings.get("eos_token")) or "</s>"
    inner = Tokenizer(models.Unigram(table, unk_id=trainer.get(_UNKNOWN, [0])[0]))
    steps: list[Any] = [normalizers.Precompiled(normaliser[_TABLE][0])] if normaliser.get(_TABLE, [b""])[0] else []
    if normaliser.get(_SPACES, [1])[0]:
        steps += [normalizers.Replace("\u2581", " "), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    inner.normalizer = normalizers.Sequence(steps)
    front = "always" if normaliser.get(_PREFIX, [1])[0] else "never"
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=front)
    inner.decoder = decoders.Metaspace(prepend_scheme=front)
    inner.post_processor = _ending(end, inner)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=end,
        unk_token=_written(settings.get("unk_token")) or "<unk>",
        pad_token=_written(settings.get("pad_token")) or end,
        model_max_length=int(settings.get("model_max_length") or 64),
        padding_side="right",
    )


def _written(token: Any) -> str | None:
    """A special token's text; the settings hold it plain or with its properties."""
    return token.get("content") if isinstance(token, dict) else token


def _ending(end: str, inner: Tokenizer) -> processors.PostProcessor:
    code = inner.token_to_id(end)
    if code is None:
        raise ModelError(f"{FILE} has no piece {end!r}, which is to end each text.", "Download or copy it again.")
    return processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, code)])


def _fields(message: bytes) -> dict[int, list[Any]]:
    """Fields of one protocol-buffers message: number -> values, in order, as bytes or as the integer of a varint."""
    found: dict[int, list[Any]] = defaultdict(list)
    for number, value in _walk(message):
        found[number].append(value)
    return dict(found)


def _walk(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == _BLOCK:
            length, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(message):
            raise ValueError("cut short")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of the integer that starts here, seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("an integer without end")

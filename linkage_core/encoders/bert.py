"""BERT text towers: the tokeniser from a repository's own files, and the trunk up to the first token's state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from linkage_core.encoders.hub import read_json
from linkage_core.errors import ModelError

_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "pad_token_id",
)
"""What of a config.json shapes the trunk in use; dropout does not."""

POSITIONS = "embeddings.position_ids"  # constant 0, 1, 2, ... that transformers stored until version 4.31


def bert_config(settings: dict[str, Any]) -> BertConfig:
    """BERT-base, changed by what a config.json says."""
    return BertConfig(**{key: settings[key] for key in _SETTINGS if key in settings})


def bert_config_of(name: str, folder: Path) -> BertConfig:
    """The configuration in a folder. Raises ModelError: there is none."""
    settings = read_json(folder / "config.json")
    if "hidden_size" not in settings:
        raise ModelError(f"{name}: {folder} has no config.json of a BERT model.", "Copy the model's folder again.")
    return bert_config(settings)


def bert_model(config: BertConfig) -> BertModel:
    """The trunk without a pooling layer."""
    return BertModel(config, add_pooling_layer=False)


def embedding_rows(bert: BertModel) -> int:
    """How many tokens the trunk has a vector for."""
    return int(bert.embeddings.word_embeddings.num_embeddings)


def read_tokenizer(name: str, folder: Path) -> BertTokenizer:
    """The tokeniser from a folder's own files. Raises ModelError: they are not there or damaged."""
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        raise ModelError(f"{name}: {folder} has no vocab.txt or tokenizer.json.", "Copy or download the model again.")
    try:
        return BertTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{name}: the tokenizer in {folder} cannot be read ({str(error).strip().splitlines()[0]}).",
            "Copy or download the model again.",
        ) from error


def encode(
    tokenizer: BertTokenizer, texts: list[str], limit: int, written: Callable[[str], str]
) -> dict[str, torch.Tensor]:
    """(n, longest) ids and mask of texts as the model was trained on them; what is beyond `limit` tokens is cut."""
    ids = tokenizer(
        [written(text) for text in texts],
        truncation=True,
        max_length=limit,
        padding=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_tensors="pt",
    )["input_ids"]
    return {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long()}


def lengths(tokenizer: BertTokenizer, texts: list[str], written: Callable[[str], str]) -> list[int]:
    """How many tokens each text has, with the first and the last."""
    return [len(ids) for ids in tokenizer([written(text) for text in texts], verbose=False)["input_ids"]]


def first_state(bert: BertModel, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, hidden): the last layer's state of the first token, without BERT's own pooling layer."""
    return bert(**tokens).last_hidden_state[:, 0]


def mean_state(bert: BertModel, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, hidden): the mean of the last layer's states over the tokens that are no padding."""
    counted = tokens["attention_mask"].unsqueeze(-1)
    states = bert(**tokens).last_hidden_state
    return (states * counted).sum(1) / counted.sum(1)

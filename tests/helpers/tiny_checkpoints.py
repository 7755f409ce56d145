"""Checkpoints of a few kilobytes with random weights, in the format that real repositories have."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

TEXTS = [
    "No acute cardiopulmonary process.",
    "Small left pleural effusion, with right lower lobe pneumonia!",
    "Heart size is normal.\nThe lungs are clear.",
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LIMIT = 24  # tokens
SIDE = 32  # pixels

_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_VISION = {**_TOWER, "hidden_size": 24, "image_size": SIDE, "patch_size": 8}


def write_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP repository as OpenAI's looks: byte-level BPE, and the short preprocessor configuration of 2021."""
    folder.mkdir(parents=True, exist_ok=True)
    specials = ["<|startoftext|>", "<|endoftext|>"]
    pieces, merges = _byte_pairs(" ".join(TEXTS).lower().split())
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *specials])}
    start, end = (vocabulary[special] for special in specials)
    _write(folder / "vocab.json", **vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    _write(
        folder / "tokenizer_config.json",
        tokenizer_class="CLIPTokenizer",
        bos_token=specials[0],
        eos_token=specials[1],
        unk_token=specials[1],
        pad_token=specials[1],
        model_max_length=LIMIT,
    )
    _write(
        folder / "preprocessor_config.json",
        feature_extractor_type="CLIPFeatureExtractor",
        crop_size=SIDE,
        size=SIDE,
        resample=3,
        do_center_crop=True,
        do_normalize=True,
        do_resize=True,
        image_mean=[0.48, 0.45, 0.40],
        image_std=[0.27, 0.26, 0.28],
    )
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": LIMIT, "bos_token_id": start, "eos_token_id": end}
    config = CLIPConfig(text_config={**_TOWER, **text, "pad_token_id": end}, vision_config=_VISION, projection_dim=20)
    return _save(CLIPModel, config, folder, seed)


def write_siglip(folder: Path, seed: int = 0) -> Path:
    """A SigLIP repository: pieces in tokenizer.json, rows padded to the limit, no projection after the image tower."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [("</s>", 0.0), ("<unk>", -9.0), *[(letter, -2.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]]
    unigram = Tokenizer(models.Unigram([*pieces, ("▁the", -1.0), ("ung", -1.5)], unk_id=1))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    unigram.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        tokenizer_class="SiglipTokenizer",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        model_max_length=LIMIT,
        model_input_names=["input_ids"],
    )
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="SiglipImageProcessor",
        size={"height": SIDE, "width": SIDE},
        resample=3,
        do_resize=True,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    text = {"vocab_size": 64, "max_position_embeddings": LIMIT, "projection_size": 24, "bos_token_id": 0}
    config = SiglipConfig(text_config={**_TOWER, **text, "eos_token_id": 0, "pad_token_id": 0}, vision_config=_VISION)
    return _save(SiglipModel, config, folder, seed)


def write_siglip2(folder: Path, seed: int = 0) -> Path:
    """A SigLIP 2 repository: SigLIP's model with Gemma's tokenizer, which keeps capitals apart."""
    write_siglip(folder, seed)
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *map(chr, range(33, 127))]
    gemma = Tokenizer(models.BPE({piece: at for at, piece in enumerate(letters)}, [], unk_token="<unk>"))
    gemma.normalizer = normalizers.Replace(" ", "▁")
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    gemma.save(str(folder / "tokenizer.json"))
    marks = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    _write(folder / "tokenizer_config.json", tokenizer_class="GemmaTokenizer", model_max_length=LIMIT, **marks)
    text = {"vocab_size": 128, "max_position_embeddings": LIMIT, "projection_size": 24, "bos_token_id": 2}
    config = SiglipConfig(text_config={**_TOWER, **text, "eos_token_id": 1, "pad_token_id": 0}, vision_config=_VISION)
    return _save(SiglipModel, config, folder, seed)


def write_bert(folder: Path, hidden: int = 64, layers: int = 2, positions: int = 512) -> Path:
    """What a BERT repository holds beside its weights: config.json and a word list, nothing compiled from it."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = sorted({word.strip(".,!") for text in TEXTS for word in text.lower().split()} - set(letters))
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*specials, *letters, *(f"##{letter}" for letter in letters), *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    _write(
        folder / "tokenizer_config.json",
        tokenizer_class="BertTokenizer",
        do_lower_case=True,
        model_max_length=1000000000000000019884624838656,
        strip_accents=None,
        tokenize_chinese_chars=True,
        **{f"{name.strip('[]').lower()}_token": name for name in specials},
    )
    _write(
        folder / "config.json",
        model_type="bert",
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        hidden_dropout_prob=0.25,
        attention_probs_dropout_prob=0.25,
    )
    return folder


def write_biomedclip_files(folder: Path, trunk: str = "vit_tiny_patch16_224", embedding: int = 48) -> Path:
    """A BiomedCLIP repository without its weights; its text trunk is described in the folder `bert` inside."""
    write_bert(folder)
    write_bert(folder / "bert")
    (folder / "config.json").unlink()
    towers = {
        "embed_dim": embedding,
        "vision_cfg": {
            "timm_model_name": trunk,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": str((folder / "bert").absolute()),
            "hf_tokenizer_name": str((folder / "bert").absolute()),
            "hf_model_pretrained": False,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    }
    pixels = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    _write(folder / "open_clip_config.json", model_cfg=towers, preprocess_cfg=pixels)
    return folder


def write_biovil_files(folder: Path, joint: int = 128) -> Path:
    """A BioViL-T repository without its weights."""
    write_bert(folder)
    settings = json.loads((folder / "config.json").read_text())
    del settings["model_type"]  # as published
    _write(folder / "config.json", **settings, architectures=["CXRBertModel"], projection_size=joint)
    return folder


def random_state(model: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights wide enough that rows differ, and batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            state[key] = value.clone()
        elif key.endswith("running_var"):
            state[key] = torch.rand(value.shape, generator=generator) + 0.5
        elif value.ndim > 1:
            fan = value[0].numel()
            state[key] = torch.randn(value.shape, generator=generator) * (2 / fan) ** 0.5
        else:
            state[key] = float(key.endswith("weight")) + 0.1 * torch.randn(value.shape, generator=generator)
    return state


def cached(hub_cache: Path, repo: str, commit: str = COMMIT, main: bool = True) -> Path:
    """The snapshot folder of a repository in a Hugging Face cache; `main` says whether a reference points to it."""
    root = hub_cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    if main:
        (root / "refs" / "main").write_text(commit)
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    return snapshot


def as_pickle(folder: Path) -> Path:
    """Turn a folder's safetensors into the pickle that older repositories have."""
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def _byte_pairs(words: list[str]) -> tuple[list[str], list[str]]:
    """Pieces and merges of a byte-level BPE in which each of these words becomes one piece."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys([*alphabet, *(letter + "</w>" for letter in alphabet)])
    merges: dict[str, None] = {}
    for word in words:
        letters = [*word[:-1], word[-1] + "</w>"]
        left = letters[0]
        for right in letters[1:]:
            merges[f"{left} {right}"] = None
            left += right
            pieces[left] = None
    return list(pieces), list(merges)


def _save(kind, config, folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = kind(config)
    for parameter in model.parameters():  # larger than the usual start, or all rows would look alike
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


def _write(path: Path, **settings) -> None:
    path.write_text(json.dumps(settings))

"""What the models' own code makes of images and texts, on checkpoints with random weights in the official layout."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from helpers.places import SHARED
from helpers.tiny_checkpoints import (
    TEXTS,
    random_state,
    write_biomedclip_files,
    write_biovil_files,
    write_clip,
    write_siglip,
)
from linkage_core.encoders import hub, pull

SPECIAL_TEXTS = [
    *TEXTS,
    "",
    "Findings: none?!.",
    "Compared to &lt;prior&gt; &amp; \u201ctoday\u2019s\u201d \ufb01lm; 5\u00a0mm nodule \u2013 stable.",
    "  Two   spaces,\r\n\tand a tab.  ",
    "caf\u00e9 cafe\u0301 \u00b5g/ml \uff21\uff22 1\u00bd",
    "no effusion " * 300,
]


@dataclass
class Official:
    """One model by its own code. Pixels are (n, 3, height, width); `levels` turns a difference of pixels into grey
    levels of 255."""

    folder: Path  # what our loader is given
    pixels: Callable[[list[Path]], torch.Tensor]
    image: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # features, embeddings
    ids: Callable[[list[str]], list[list[int]]]  # without padding
    text: Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]
    levels: np.ndarray


def _levels(std) -> np.ndarray:
    """(3, 1, 1): what a difference of normalised pixels is in grey levels, channel by channel."""
    return 255 * np.asarray(std, np.float64)[:, None, None]


# ------------------------------------------------------------------------------------------------------- real material


def real_images(limit: int) -> list[Path]:
    """Radiographs of shared/data whose channels are equal, so that grey is all there is to them; of both kinds."""
    folder = SHARED / "covid-chestxray"
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            with Image.open(path) as picture:
                if picture.mode == "L" or (
                    picture.mode == "RGB" and len(np.unique(np.ptp(np.asarray(picture), axis=2))) == 1
                ):
                    found.append(path)
        if len(found) == limit:
            break
    return found


def real_reports(limit: int) -> list[str]:
    """Findings and impressions of the first Open-i reports."""
    texts: list[str] = []
    with tarfile.open(SHARED / "openi" / "NLMCXR_reports.tgz") as archive:
        for member in archive:
            if len(texts) >= limit:
                break
            if member.name.endswith(".xml"):
                file = archive.extractfile(member)
                root = ElementTree.fromstring(file.read()) if file else None
                parts = [] if root is None else [node.text for node in root.iter("AbstractText") if node.text]
                texts.append(" ".join(parts))
    return texts


# --------------------------------------------------------------------------------------------------------- the families


def _hooked(layer: torch.nn.Module, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(input of a layer, result) of one run."""
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        result = run()
    handle.remove()
    return seen[-1], result


def _unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]


def clip(folder: Path) -> Official:
    write_clip(folder)
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)

    def tokens(texts):
        limit = model.config.text_config.max_position_embeddings
        return tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")

    def ids(texts):
        found = tokens(texts)
        return _unpadded(found["input_ids"], found["attention_mask"])

    def pixels(paths):
        return processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")["pixel_values"]

    return Official(
        folder,
        pixels,
        lambda x: _hooked(model.visual_projection, lambda: model.get_image_features(pixel_values=x).pooler_output),
        ids,
        lambda t: _hooked(model.text_projection, lambda: model.get_text_features(**tokens(t)).pooler_output),
        _levels(processor.image_std),
    )


def siglip(folder: Path, write: Callable[[Path], Path] = write_siglip) -> Official:
    """With `siglip_pieces` as `write`, the tokeniser is the official one on sentencepiece."""
    write(folder)
    model = transformers.SiglipModel.from_pretrained(folder).eval()
    processor = transformers.SiglipImageProcessorPil.from_pretrained(folder)
    limit = model.config.text_config.max_position_embeddings
    if (folder / "spiece.model").is_file():
        tokenizer = transformers.SiglipTokenizer.from_pretrained(folder)
        plain: Callable[[str], str] = str
    else:
        from linkage_core.encoders.clip import canonical as plain

        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)

    def tokens(texts):
        written = [plain(text) for text in texts]
        found = tokenizer(written, padding="max_length", truncation=True, max_length=limit, return_tensors="pt")
        return {"input_ids": found["input_ids"]}  # no mask: so SigLIP was trained

    def text(texts):
        return _hooked(model.text_model.head, lambda: model.get_text_features(**tokens(texts)).pooler_output)

    def image(x):
        with torch.no_grad():
            pooled = model.get_image_features(pixel_values=x).pooler_output
        return pooled, pooled

    def pixels(paths):
        return processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")["pixel_values"]

    return Official(
        folder, pixels, image, lambda t: tokens(t)["input_ids"].tolist(), text, _levels(processor.image_std)
    )


def siglip_pieces(folder: Path) -> Path:
    """A SigLIP repository as Google's are: pieces in spiece.model and nowhere else."""
    import sentencepiece

    write_siglip(folder)
    (folder / "tokenizer.json").unlink()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*real_reports(300), *SPECIAL_TEXTS]),
        model_prefix=str(folder / "spiece"),
        vocab_size=600,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["vocab_size"] = 600
    config = transformers.SiglipConfig(**{key: settings[key] for key in ("text_config", "vision_config")})
    model = transformers.SiglipModel(config)
    model.load_state_dict(random_state(model))
    model.save_pretrained(folder)
    return folder


def _open_clip(folder: Path) -> Official:
    import open_clip

    place = f"local-dir:{folder}"
    model, transform = open_clip.create_model_from_pretrained(place)
    model.eval()
    tokenizer = open_clip.get_tokenizer(place)
    text_tower = model if hasattr(model, "text_projection") else model.text

    def ids(texts):
        found = tokenizer(texts)
        return _unpadded(found, found != 0)

    def with_last(tower, names, run):
        """The input of the last linear layer, where it is a layer, or else nothing."""
        for name in names:
            layer = getattr(tower, name, None)
            layer = layer[-1] if isinstance(layer, torch.nn.Sequential) else layer
            if isinstance(layer, torch.nn.Linear):
                return _hooked(layer, run)
        with torch.no_grad():
            return None, run()

    image_last = getattr(model.visual, "head", None)
    return Official(
        folder,
        lambda paths: torch.stack([transform(Image.open(path)) for path in paths]),
        lambda x: with_last(image_last, ["proj"], lambda: model.encode_image(x)),
        ids,
        lambda t: with_last(text_tower, ["proj", "text_projection"], lambda: model.encode_text(tokenizer(t))),
        _levels(model.visual.preprocess_cfg["std"]),
    )


def biomedclip(folder: Path, full: bool = False) -> Official:
    """The pickle as published for open_clip; its safetensors for us. `full`: the real sizes."""
    from open_clip.model import CustomTextCLIP

    source = write_biomedclip_files(folder / "published", *(("vit_base_patch16_224", 512) if full else ()))
    if full:
        transformers.BertConfig(vocab_size=30522).save_pretrained(source / "bert")
    settings = json.loads((source / "open_clip_config.json").read_text())["model_cfg"]
    model = CustomTextCLIP(**settings)
    state = random_state(model)
    state["text.transformer.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, source / "open_clip_pytorch_model.bin")
    pull.convert(source, folder / "converted", "org/bio", "c", name="open_clip_pytorch_model.bin")
    official = _open_clip(source)
    official.folder = folder / "converted"
    return official


def biovil(folder: Path, full: bool = False) -> Official:
    """The image model is always of real size; `full`: the text model too."""
    from health_multimodal.image.data.io import load_image
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference
    from health_multimodal.image.model.model import ImageModel
    from health_multimodal.text.data.io import TextInput
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    write_biovil_files(folder)
    if full:
        settings = transformers.BertConfig(vocab_size=30522).to_dict() | {"architectures": ["CXRBertModel"]}
        (folder / "config.json").write_text(json.dumps(settings | {"projection_size": 128}))
    path = folder / hub.BIOVIL_IMAGE
    image_model = ImageModel(img_encoder_type="resnet50_multi_image", joint_feature_size=128)
    torch.save(random_state(image_model), path)
    image_model.load_state_dict(torch.load(path, weights_only=True))  # what the package does with the published file
    image_model.eval()
    text = CXRBertModel(CXRBertConfig.from_pretrained(folder))
    save_file(as_published(random_state(text)), folder / "model.safetensors", metadata={"format": "pt"})

    text_model = CXRBertModel.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    # What transformers 5 no longer has and the package still calls: another name for calling the tokeniser.
    tokenizer.batch_encode_plus = lambda batch_text_or_text_pairs, **options: tokenizer(
        batch_text_or_text_pairs, truncation=True, max_length=512, **options
    )
    reader = TextInput(tokenizer)
    transform = create_chest_xray_transform_for_inference(resize=512, center_crop_size=448)

    def tokens(texts):
        return reader.tokenize_input_prompts(texts, verbose=False)

    def ids(texts):
        found = tokens(texts)
        return _unpadded(found["input_ids"], found["attention_mask"])

    def image(x):
        inner, result = _hooked(image_model.projector.model[3], lambda: image_model(x).projected_global_embedding)
        return inner.mean(dim=(2, 3)), result

    def embedded(texts):
        found = tokens(texts)
        return text_model.get_projected_text_embeddings(
            found["input_ids"], found["attention_mask"], normalize_embeddings=False
        )

    return Official(
        folder,
        lambda paths: torch.stack([transform(load_image(path)) for path in paths]),
        image,
        ids,
        lambda t: _hooked(text_model.cls_projection_head.dense_to_output, lambda: embedded(t)),
        _levels((1.0, 1.0, 1.0)),
    )


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """CXR-BERT's tensors as model.safetensors holds them: no copies of tied ones, but positions and a pooling layer."""
    kept = {key: value for key, value in state.items() if not re.match(r"cls\.predictions\.decoder\.", key)}
    hidden = kept["bert.embeddings.LayerNorm.bias"].numel()
    return kept | {
        "bert.pooler.dense.weight": torch.ones(hidden, hidden),
        "bert.pooler.dense.bias": torch.ones(hidden),
        "bert.embeddings.position_ids": torch.arange(len(kept["bert.embeddings.position_embeddings.weight"]))[None],
    }


def open_clip_of(kind: str) -> Callable[[Path], Official]:
    """open_clip models of other shapes: `vit` (a CLIP of open_clip's own), `quick` (with quick GELU), `resnet`, `timm`
    (a timm trunk with an MLP after it, and a text tower of its own)."""

    def build(folder: Path) -> Official:
        import open_clip

        folder.mkdir(parents=True)
        text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
        vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
        if kind == "resnet":
            vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
        if kind == "timm":
            vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "mlp", "image_size": 224}
        settings = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text} | (
            {"quick_gelu": True} if kind == "quick" else {}
        )
        custom = open_clip.CustomTextCLIP if kind == "timm" else open_clip.CLIP
        torch.manual_seed(0)
        model = custom(**settings)
        pixels = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
        (folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": settings | {"custom_text": kind == "timm"}, "preprocess_cfg": pixels})
        )
        save_file(random_state(model), folder / "open_clip_model.safetensors")
        return _open_clip(folder)

    return build


FAMILIES: dict[str, Callable[[Path], Official]] = {
    "clip": clip,
    "siglip": siglip,
    "siglip, pieces in spiece.model": lambda folder: siglip(folder, siglip_pieces),
    "biomedclip": biomedclip,
    "biovil-t": biovil,
    "open_clip: ViT": open_clip_of("vit"),
    "open_clip: ViT, quick GELU": open_clip_of("quick"),
    "open_clip: ResNet": open_clip_of("resnet"),
    "open_clip: timm with MLP": open_clip_of("timm"),
}

"""Every family beside its own code, the published layouts at full size, and broken twins that must be noticed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import transformers
from compare import differences, ids_that_differ, load
from official import FAMILIES, SPECIAL_TEXTS, Official, as_published, real_images, real_reports
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from helpers.places import SHARED
from linkage_core.encoders import bert, biomedclip, biovil, clip, hub, openclip, pieces, pixels
from linkage_core.encoders.fit import Treatment
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import ModelError

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the radiographs and reports of {SHARED} are not here")
N_IMAGES = 3


@pytest.fixture(scope="module")
def material():
    """Radiographs as files, and texts: awkward ones and real reports."""
    return real_images(N_IMAGES), [*SPECIAL_TEXTS, *real_reports(20)]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A family's checkpoint and its own code, made once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = remembering(FAMILIES[name](tmp_path_factory.mktemp("family") / "model"))
        return made[name]

    return make


def remembering(theirs: Official) -> Official:
    """Every twin of a family is compared with the same figures: the model's own code is run once for each input."""

    def once(function, key):
        kept = {}

        def asked(given):
            if key(given) not in kept:
                kept[key(given)] = function(given)
            return kept[key(given)]

        return asked

    return replace(
        theirs,
        image=once(theirs.image, lambda pixels: pixels.numpy().tobytes()),
        pixels=once(theirs.pixels, tuple),
        text=once(theirs.text, tuple),
        ids=once(theirs.ids, tuple),
    )


# -------------------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("name", FAMILIES)
def test_features_embeddings_pixels_and_token_ids_are_the_models_own(name, official, material):
    found = differences(official(name), load(name, official(name)), *material)
    assert not found.complaints(), found


@pytest.mark.parametrize("name", ["biomedclip", "biovil-t", "clip"])
def test_padding_changes_nothing(name, official, material):
    theirs, ours = official(name), load(name, official(name))
    for text in material[1][:2]:
        alone = ours.text_features([text])
        np.testing.assert_allclose(alone, theirs.text([text, "x y z"])[0][:1], atol=1e-5 * max(1, np.abs(alone).max()))


def test_all_open_i_reports_have_the_official_token_ids(official):
    reports = real_reports(5000)
    assert len(reports) > 3900
    for name in ("biomedclip", "biovil-t", "siglip, pieces in spiece.model"):
        assert ids_that_differ(official(name), load(name, official(name)), reports) == 0, name


def test_clips_pixels_are_those_of_the_processor_on_torchvision_too(official, material):
    """The default processor where torchvision is installed: another implementation, within one grey level."""
    folder = official("clip").folder
    pictures = [Image.open(path).convert("RGB") for path in material[0]]
    theirs = transformers.CLIPImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")["pixel_values"]
    apart = np.abs((official("clip").pixels(material[0]) - theirs).numpy()) * official("clip").levels
    assert 0 < apart.max() <= 1.001


# ---------------------------------------------------------------------------------------------------- published layouts


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


def test_biomedclip_at_full_size_has_open_clips_names_and_shapes(tmp_path):
    from open_clip.model import CustomTextCLIP

    transformers.BertConfig().save_pretrained(tmp_path)
    towers = {
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_224",
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": {
            "hf_model_name": str(tmp_path),
            "hf_model_pretrained": False,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    }
    with torch.device("meta"):
        theirs = CustomTextCLIP(**towers)
        ours = biomedclip.BiomedClip(
            biomedclip.TRUNKS["vit_base_patch16_224"], bert.bert_config(biomedclip.PUBMEDBERT), 512
        )
    assert shapes(ours.state_dict()) == shapes(theirs.state_dict())


def test_biovil_t_at_full_size_has_the_official_names_and_shapes(official):
    stored = torch.load(official("biovil-t").folder / hub.BIOVIL_IMAGE, weights_only=True)
    assert shapes(biovil.BioVilImage().state_dict()) == shapes(stored)


def test_cxr_bert_at_full_size_has_the_official_names_and_fills_the_published_file_to_the_byte():
    """model.safetensors of the pinned commit has 440,909,232 bytes. A file of these names and shapes, with the note
    that the converter leaves on tied tensors, has exactly as many: one name more, fewer or longer and it would not."""
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    with torch.device("meta"):
        theirs = CXRBertModel(CXRBertConfig(projection_size=128)).state_dict()
        ours = biovil.CxrBert(bert.bert_config({}), 128).state_dict()
    assert ours.keys() <= theirs.keys()
    assert all(key.startswith("cls.predictions.") for key in theirs.keys() - ours.keys())
    published = as_published(theirs)
    tied = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    header, end = {"__metadata__": {"format": "pt", **tied}}, 0
    for key in sorted(published, key=lambda key: (-published[key].element_size(), key)):
        value = published[key]
        size = value.numel() * value.element_size()
        kind = "I64" if value.dtype == torch.int64 else "F32"
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [end, end + size]}
        end += size
    length = len(json.dumps(header, separators=(",", ":")))
    assert 8 + -(-length // 8) * 8 + end == 440_909_232


# -------------------------------------------------------------------------------------------------------- broken twins


@dataclass
class Twin:
    """One plausible mistake: where it is made and what must notice it."""

    family: str
    noticed: str  # a field of Differences
    before: Callable[[pytest.MonkeyPatch], None] = lambda patch: None
    after: Callable[[object], None] = lambda encoder: None


def written_as_given(encoder):
    encoder._treatment = Treatment(str, "as given")


def replace_activations(module, wrong):
    for child in module.modules():
        for attribute in ("activation_fn", "gelu"):
            if hasattr(child, attribute):
                setattr(child, attribute, wrong)


def without_mask(patch):
    honest = bert.encode

    def twin(*arguments):
        tokens = honest(*arguments)
        return tokens | {"attention_mask": torch.ones_like(tokens["attention_mask"])}

    patch.setattr(bert, "encode", twin)


def floor_of_the_middle(patch):
    patch.setattr(pixels, "round", lambda value: int(value // 1), raising=False)


def no_stretch(patch):
    patch.setattr(pixels, "full_range", lambda _: pixels.rounded)


def mean_after_relu_swapped(patch):
    def twin(self, images):
        grid = self.encoder.backbone_to_vit(self.encoder.encoder(images))
        both = torch.cat([grid, self.encoder.missing_previous_emb.expand_as(grid)], dim=1)
        return torch.relu(self.projector.model[:2](both).mean(dim=(2, 3)))

    patch.setattr(biovil.BioVilImage, "forward", twin)


def no_prefix(patch):
    honest = pieces.pre_tokenizers.Metaspace
    patch.setattr(pieces.pre_tokenizers, "Metaspace", lambda **_: honest(prepend_scheme="never"))


def mean_of_patches(patch):
    def twin(self, images):
        found = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        states = torch.cat([self.cls_token.expand(len(images), -1, -1), found], dim=1) + self.pos_embed
        return self.norm(self.blocks(states)).mean(dim=1)

    patch.setattr(biomedclip.VisionTransformer, "forward", twin)


def mean_state(patch):
    patch.setattr(bert, "first_state", lambda model, tokens: model(**tokens).last_hidden_state.mean(dim=1))


def forget_earlier(encoder):
    encoder._image.encoder.missing_previous_emb.data.zero_()


def first_position(patch):
    def twin(self, tokens):
        return self._model.text_model(**tokens).last_hidden_state[:, 0]

    patch.setattr(clip.ClipEncoder, "_text_tower", twin)


def tanh_in_projection(encoder):
    encoder._model.text.proj[1] = nn.GELU(approximate="tanh")


def exact_activations(encoder):
    replace_activations(encoder._model, nn.GELU())


TWINS = {
    "biomedclip: mean over tokens": Twin("biomedclip", "text_features", mean_state),
    "biomedclip: no mask": Twin("biomedclip", "text_features", without_mask),
    "biomedclip: GELU by tanh": Twin("biomedclip", "text_features", after=tanh_in_projection),
    "biomedclip: mean over patches": Twin("biomedclip", "image_features", mean_of_patches),
    "biomedclip: corner rounded down": Twin("biomedclip", "grey_levels", floor_of_the_middle),
    "biomedclip: text as it came": Twin("biomedclip", "token_ids", lambda p: p.setattr(biomedclip, "plain", str)),
    "biovil-t: no vector for the earlier image": Twin("biovil-t", "image_features", after=forget_earlier),
    "biovil-t: mean before the ReLU": Twin("biovil-t", "image_features", mean_after_relu_swapped),
    "biovil-t: batch norm of the batch": Twin("biovil-t", "image_features", after=lambda e: e._image.train()),
    "biovil-t: grey as it came": Twin("biovil-t", "grey_levels", no_stretch),
    "biovil-t: no mask": Twin("biovil-t", "text_features", without_mask),
    "biovil-t: final mark kept": Twin("biovil-t", "token_ids", lambda p: p.setattr(biovil, "without_end", str)),
    "clip: exact GELU": Twin("clip", "text_features", after=exact_activations),
    "siglip: first position": Twin("siglip", "text_features", first_position),
    "siglip: exact GELU": Twin("siglip", "image_features", after=exact_activations),
    "siglip: pieces without prefix": Twin("siglip, pieces in spiece.model", "token_ids", no_prefix),
    "siglip: capitals and marks kept": Twin("siglip, pieces in spiece.model", "token_ids", after=written_as_given),
    "open_clip: exact GELU": Twin("open_clip: ViT, quick GELU", "text_embeddings", after=exact_activations),
}


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS.keys())
def test_a_broken_twin_is_noticed(twin, official, material, monkeypatch):
    theirs = official(twin.family)
    twin.before(monkeypatch)
    encoder = load(twin.family, theirs)
    twin.after(encoder)
    tower = "image" if twin.noticed in ("grey_levels", "image_features") else "text"
    found = differences(theirs, encoder, *material, towers=(tower,))
    assert twin.noticed in found.complaints(), found


def test_open_clips_own_names_lead_to_their_repositories():
    assert openclip.repository("ViT-B-32/laion2b_s34b_b79k") == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert openclip.repository("ViT-B-32/openai") == "timm/vit_base_patch32_clip_224.openai"
    assert openclip.repository("org/name") == "org/name"
    with pytest.raises(ModelError, match="laion2B-s34B-b79K is not on this machine"):
        load_encoder("open_clip:ViT-B-32/laion2b_s34b_b79k", store_root=SHARED)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("visual.ln_post.weight"), "visual.ln_post.weight"),
        (lambda s: s.update({"visual.extra": torch.zeros(1)}), "visual.extra"),
    ],
)
def test_open_clip_weights_that_do_not_fit_are_named(official, tmp_path, change, named):
    folder = shutil.copytree(official("open_clip: ViT").folder, tmp_path / "copy")
    weights = folder / "open_clip_model.safetensors"
    state = load_file(weights)
    change(state)
    save_file(state, weights)
    with pytest.raises(ModelError, match=named):
        load_encoder(f"open_clip:{folder}", store_root=folder, device="cpu")


def test_a_missing_piece_table_is_named(official, tmp_path):
    folder = shutil.copytree(official("siglip, pieces in spiece.model").folder, tmp_path / "copy")
    whole = (folder / "spiece.model").read_bytes()
    (folder / "spiece.model").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"spiece\.model cannot be read"):
        load("siglip", type("Place", (), {"folder": folder}))

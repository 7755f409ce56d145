"""Names of models -> encoders. Nothing here downloads; a model that is not here is an error that says how to get it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from linkage_core import shipped
from linkage_core.encoders import hub, packaged, settings
from linkage_core.encoders.base import Encoder
from linkage_core.errors import LinkageError, ModelError

PHANTOM = ("phantom-general", "phantom-biomedical", "phantom-clinical", "phantom-radiology")
"""The ladder of the built-in models, from the least to the most specialised."""


@dataclass(frozen=True)
class Code:
    """What makes an encoder, by name: torch and transformers are slow to import, so only when it is needed."""

    module: str
    name: str

    def load(self) -> Callable[..., Encoder]:
        return getattr(import_module(f"linkage_core.encoders.{self.module}"), self.name)


UNPAIRED = {"efficientnet-lite0-minilm": ("efficientnet-lite0", "minilm")}
"""Towers out of packages, side by side, that were never trained together: name -> keys of packaged.PACKAGED."""

NAMED: dict[str, Code] = dict.fromkeys(PHANTOM, Code("phantom", "load_phantom"))
NAMED |= dict.fromkeys(UNPAIRED, Code("unpaired", "load_unpaired"))
"""Models of our own, and those that packages hold: name -> function of (name, root of the store) that loads it. They
run on the processor."""

FAMILIES: dict[str, Code] = {
    "clip": Code("clip", "ClipEncoder"),
    "siglip": Code("clip", "ClipEncoder"),
    "biomedclip": Code("biomedclip", "BiomedClipEncoder"),
    "biovil-t": Code("biovil", "BioVilEncoder"),
    "open_clip": Code("openclip", "OpenClipEncoder"),
}
"""What hub.family_of says of a model's files -> class of (name, files, device, precisions) that reads them."""

DEVICES = ("auto", "cpu", "cuda", "mps")
_SHIPPED = shipped.store()


@dataclass(frozen=True)
class ModelInfo:
    """One line of `linkage doctor`: a model by name, and whether it is here."""

    name: str
    family: str
    repo: str | None
    revision: str | None
    licence: str
    present: bool
    where: str | None
    size: int | None  # bytes of the weights
    note: str  # what to do where it is absent


def load_encoder(name: str, *, store_root: Path, device: str = "auto") -> Encoder:
    """The encoder that a name stands for.

    Names: `phantom-general` .. `phantom-radiology`, `clip`, `pubmedclip`, `biomedclip`, `biovil-t`,
    `efficientnet-lite0-minilm` (out of packages), `hf:ORG/NAME` (or `hf:ORG/NAME@REVISION`), a folder, as `hf:./folder`
    or an absolute path, and, with requirements-models.txt, `open_clip:ORG/NAME`, `open_clip:ARCHITECTURE/TAG` or
    `open_clip:./folder`. `device`: auto, cpu, cuda or mps.
    Raises ModelError: unknown name, model not on this machine, weights that do not fit.
    """
    if device not in DEVICES:
        raise ModelError(f"{device!r} is no device.", f"Choose one of {', '.join(DEVICES)}.")
    if name in NAMED:
        if device not in ("auto", "cpu"):
            raise ModelError(f"{name} is small and runs on the processor, not on {device}.", "Leave --device out.")
        return NAMED[name].load()(name, store_root)
    opened = name.startswith("open_clip:")
    if opened:
        from linkage_core.encoders.openclip import repository, require

        require(name)
        local = _resolve("open_clip:" + repository(name.removeprefix("open_clip:")))
    else:
        local = _resolve(name)
    chosen, reduced = _device(device)
    family = "open_clip" if opened else hub.family_of(local.folder)
    settings.check(name, local)
    adapter = FAMILIES.get(family or "", FAMILIES["clip"]).load()  # which says what is wrong with other files
    from linkage_core.encoders.towers import quietly

    with quietly():
        try:
            return adapter(name, local, chosen, reduced)
        except (LinkageError, MemoryError, ImportError):
            raise
        except Exception as error:  # the libraries that build it raise whatever they come upon
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(
                f"{name}: no model can be built from {local.folder} ({said[0][:200]}).",
                "Download or copy it again, as its authors published it.",
            ) from error


def known_models(store_root: Path | None = None) -> list[ModelInfo]:
    """Every model that has a name, and what else of a known family lies in the caches. Imports no torch."""
    infos = [_named_info(name, store_root) for name in NAMED]
    infos += [_published_info(name, published) for name, published in hub.PUBLISHED.items()]
    named = {published.repo for published in hub.PUBLISHED.values()}
    for repo, kind in hub.cached_repositories():
        model = hub.resolve(repo)
        if kind in FAMILIES and kind != "open_clip" and repo not in named and model is not None:
            infos.append(_info(f"hf:{repo}", kind, repo, "see its model card", model))
    return infos


def _resolve(name: str) -> hub.LocalModel:
    if name in hub.PUBLISHED:
        published = hub.PUBLISHED[name]
        local = hub.resolve(published.repo, published.revision)
        if local is None:
            raise ModelError(
                f"{name} ({published.repo} at {published.revision[:12]}) is not on this machine.",
                f"`linkage pull {name}` downloads it.",
            )
        for weights in local.weights:
            hub.check_published(weights, published)
        return local
    prefix = next((prefix for prefix in ("hf:", "open_clip:") if name.startswith(prefix)), "")
    path = name.removeprefix(prefix)
    if prefix and not path:
        raise ModelError(f"{prefix} names no repository.", f"Write {prefix}ORG/NAME or {prefix}./folder.")
    repo, revision = hub.split_revision(path)
    if prefix or name.startswith(("/", "./", "../", "~")):
        if hub.is_folder_name(repo):
            local = hub.resolve(path)
            if local is None:
                raise ModelError(
                    f"There is no folder {path}.", f"Check the path; a repository is written {prefix or 'hf:'}ORG/NAME."
                )
            return local
        local = hub.resolve(repo, revision)
        if local is None:
            raise ModelError(
                f"{repo}{f' at {revision}' if revision else ''} is not on this machine.",
                f"`linkage pull {name}` downloads it.",
            )
        return local
    known = [*NAMED, *hub.PUBLISHED]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise ModelError(
        f"There is no model {name!r}.",
        f"{hint}Known: {', '.join(known)}, hf:ORG/NAME, hf:./folder, open_clip:ORG/NAME.",
    )


def _device(wanted: str) -> tuple[str, tuple]:
    """The device, and the reduced precisions worth trying on it."""
    import torch

    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(device for device in have if have[device]) if wanted == "auto" else wanted
    if not have[chosen]:
        raise ModelError(f"This machine has no {chosen} device that torch can use.", "Leave --device out, or give cpu.")
    return chosen, (torch.bfloat16,) if chosen == "cuda" else ()


def _named_info(name: str, store_root: Path | None) -> ModelInfo:
    """Of a rung of the ladder where its weights lie; of packages whether they are installed, their files not looked at;
    other models of our own need no file."""
    if name in UNPAIRED:
        return _packaged_info(name, UNPAIRED[name])
    if name not in PHANTOM:
        return ModelInfo(name, NAMED[name].module, None, None, "Apache-2.0", True, None, None, "")
    roots = [root for root in (store_root, _SHIPPED) if root is not None]
    places = [root / "phantom" / name / "weights.safetensors" for root in roots]
    found = next((place for place in places if place.is_file()), None)
    return ModelInfo(
        name=name,
        family="phantom",
        repo=None,
        revision=None,
        licence="Apache-2.0",
        present=found is not None,
        where=str(found.parent) if found else None,
        size=found.stat().st_size if found else None,
        note="" if found else "`linkage phantom build` makes it.",
    )


def _packaged_info(name: str, towers: tuple[str, ...]) -> ModelInfo:
    kept = [packaged.PACKAGED[tower] for tower in towers]
    absent = [one.distribution for tower, one in zip(towers, kept, strict=True) if packaged.installed(tower) is None]
    return ModelInfo(
        name=name,
        family="unpaired",
        repo=None,
        revision=None,
        licence=" and ".join(dict.fromkeys(one.licence for one in kept)),
        present=not absent,
        where=None if absent else str(packaged.installed(towers[0])),
        size=None if absent else sum(one.size for one in kept),
        note=f"needs {' and '.join(absent)}. {packaged.REMEDY}" if absent else "towers that share no space",
    )


def _published_info(name: str, published: hub.Published) -> ModelInfo:
    model = hub.resolve(published.repo, published.revision)
    if model is not None:
        return _info(name, published.family, published.repo, published.licence, model)
    note = f"`linkage pull {name}` downloads it ({published.size / 1e6:.0f} MB)."
    return ModelInfo(
        name, published.family, published.repo, published.revision, published.licence, False, None, None, note
    )


def _info(name: str, family: str, repo: str, licence: str, model: hub.LocalModel) -> ModelInfo:
    present = bool(model.weights)
    if present:
        note = "converted from a pickle" if model.source_sha256 else ""
    elif model.pickled:
        note = f"here only as a pickle; `linkage pull {name}` converts it."
    else:
        note = f"its weights are not here; `linkage pull {name}` downloads them."
    return ModelInfo(
        name, family, repo, model.revision, licence, present, str(model.folder), model.size if present else None, note
    )

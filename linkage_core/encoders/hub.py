"""Where public models lie on this machine, and the one function that downloads them.

Two places are looked at: the Hugging Face cache, as `huggingface_hub` lays it out, and a folder of our own that holds
weights converted from a pickle to safetensors. Nothing here but `pull` opens a connection.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkage_core import bounded
from linkage_core.errors import ModelError

SMALL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
    "open_clip_config.json",
)
"""Everything but the weights that a repository needs."""

WEIGHTS, WEIGHTS_INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS, OPEN_CLIP_PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
CONVERTED = {PICKLE: WEIGHTS, OPEN_CLIP_PICKLE: OPEN_CLIP_WEIGHTS}
"""A pickle -> the name of what it is converted to."""
BIOVIL_IMAGE = "biovil_t_image_model_proj_size_128.pt"
"""BioViL-T's image model beside its text model: the one file that is read as PyTorch wrote it, tensors only."""
_LARGEST_SETTINGS = 1 << 27  # tokenizer.json of Gemma has 34 MB
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Published:
    """A model that has a short name. The revision is a commit; `hashes` are those of the weights as published: of each
    file "sha256:..." and, where that is what its authors publish, "md5:..."; one of them must fit."""

    family: str
    repo: str
    revision: str
    hashes: Mapping[str, tuple[str, ...]]
    licence: str
    size: int  # bytes to download


PUBLISHED = {
    "clip": Published(
        "clip",
        "openai/clip-vit-base-patch32",
        "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        {PICKLE: ("sha256:a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",)},
        "MIT (OpenAI's code; the model card names none for the weights)",
        605_000_000,
    ),
    "pubmedclip": Published(
        "clip",
        "flaviagiammarino/pubmed-clip-vit-base-patch32",
        "26c0c67f6da303ad2a38909130bd35744ea93517",
        {PICKLE: ("sha256:4daa7650d2b47e55c37b5ca7dcabe826fd82407c26028a574bcc422f35a94aa4",)},
        "MIT",
        605_000_000,
    ),
    "biomedclip": Published(
        "biomedclip",
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "9f341de24bfb00180f1b847274256e9b65a3a32e",
        {OPEN_CLIP_PICKLE: ("sha256:52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",)},
        "MIT",
        783_705_670,
    ),
    "biovil-t": Published(
        "biovil-t",
        "microsoft/BiomedVLP-BioViL-T",
        "692f09e9be1bfe5fdd5f3efdd0e1eca7d2c10b23",
        {
            WEIGHTS: ("sha256:70bed344872e0a4f4dca2352564c44f44cb7a9cfcac3d878be2dd08a5fff9aba",),
            # The file page of this commit gives the first, the package hi-ml-multimodal (for the tag v1.0) the second.
            BIOVIL_IMAGE: (
                "sha256:b2399d73dc2a68b9f3a1950e864ae0ecd24093fb07aa459d7e65807ebdc0fb77",
                "md5:a83080e2f23aa584a4f2b24c39b1bb64",
            ),
        },
        "MIT",
        550_654_793,
    ),
}
"""Hashes are those on the repositories' own file pages."""


@dataclass(frozen=True)
class LocalModel:
    """A model folder on this machine. `weights` is empty where the folder holds no safetensors."""

    folder: Path
    repo: str | None  # "ORG/NAME"; None for a plain folder
    revision: str | None  # the commit; None where it is not known
    weights: tuple[Path, ...]
    pickled: bool  # there are PyTorch weights that would have to be unpickled
    source_sha256: str | None = None  # of the pickle that these safetensors were converted from

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(path.stat().st_size for path in self.weights)

    def weights_sha256(self) -> str:
        """Hash of the weight file; of several shards, the hash of their lines "sha256  name"."""
        if len(self.weights) == 1:
            return sha256_of(self.weights[0])
        lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in self.weights)
        return hashlib.sha256(lines.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_published(path: Path, published: Published) -> None:
    """ModelError unless a file of weights is the published one, or what `convert` made of the published pickle.

    The second is what `source.json` beside the file says: the pickle's published hash, and this file's own.
    """
    if path.name in published.hashes:
        return _compare(path, published.hashes[path.name])
    origin = read_json(path.parent / "source.json")
    accepted = published.hashes.get(str(origin.get("source_file")), ())
    if not accepted:
        there = ", ".join(f"{name} ({' or '.join(hashes)})" for name, hashes in published.hashes.items())
        raise ModelError(
            f"{path} has sha256:{sha256_of(path)}, and nothing says that it is published; published are {there}.",
            _NOT_PUBLISHED,
        )
    source = f"sha256:{origin.get('source_sha256')}"
    if source not in accepted:
        raise ModelError(
            f"{path} was converted from a file with {source}, but the published file has {' and '.join(accepted)}.",
            _NOT_PUBLISHED,
        )
    return _compare(path, (f"sha256:{origin.get('weights_sha256')}",), "file that was converted")


_NOT_PUBLISHED = (
    "It is not used. Delete it and pull again; if that repeats, the download is being altered. Weights of your own "
    "load from a folder: hf:./folder."
)


def _compare(path: Path, accepted: tuple[str, ...], whose: str = "published file") -> None:
    """ModelError where a file has none of these hashes."""
    found = []
    for kind in dict.fromkeys(entry.partition(":")[0] for entry in accepted):
        with path.open("rb") as file:
            found.append(f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}")
        if found[-1] in accepted:
            return
    raise ModelError(f"{path} has {' and '.join(found)}, but the {whose} has {' and '.join(accepted)}.", _NOT_PUBLISHED)


# ---------------------------------------------------------------------------------------------------------- finding it


def huggingface_cache() -> Path:
    """The folder in which `huggingface_hub` keeps repositories, by the variables that it honours itself."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return at_home(os.environ[variable])
    home = os.environ.get("HF_HOME")
    return (at_home(home) if home else _user_cache() / "huggingface") / "hub"


def converted_cache() -> Path:
    """The folder in which `pull` keeps weights that it converted to safetensors."""
    return _user_cache() / "linkage-explorer" / "models"


def _user_cache() -> Path:
    try:
        return at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    except ModelError:
        if not os.environ.get("HF_HOME"):
            raise
        return at_home(os.environ["HF_HOME"])


def at_home(path: str) -> Path:
    """A path that may begin with ~. ModelError where that is nowhere: a container's user may be a number alone."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ModelError(
            f"There is no home folder for {path}: nobody has this name, or HOME is not set and the user has none.",
            "Set HF_HOME to the folder that models are kept in, or name a model's own folder in full.",
        ) from error


def _anything_kept() -> bool:
    """Whether there is a place that models are kept in: without a home folder there need not be."""
    try:
        huggingface_cache(), converted_cache()
    except ModelError:
        return False
    return True


def is_folder_name(name: str) -> bool:
    """Whether a name after `hf:` is meant as a folder: it starts with `/`, `.` or `~`, or is no ORG/NAME."""
    return name.startswith(("/", ".", "~")) or not _REPO.fullmatch(name)


def resolve(repo_or_folder: str, revision: str | None = None) -> LocalModel | None:
    """Where a model is on this machine; None where it is not. Opens no connection.

    `repo_or_folder` is ORG/NAME or a folder. Without a revision, what `main` was when it was last downloaded. Converted
    weights stand in for a cached repository that has none but a pickle.
    """
    if is_folder_name(repo_or_folder):
        folder = at_home(repo_or_folder)
        return _read_folder(folder, None, _commit_in_path(folder)) if folder.is_dir() else None
    commit = _commit_of(repo_or_folder, revision) if _anything_kept() else None
    if commit is None:
        return None
    cached = _snapshot(repo_or_folder, commit)
    own = _converted(repo_or_folder, commit)
    found = [
        _read_folder(folder, repo_or_folder, commit)
        for folder in (cached, own)
        if any((folder / file).is_file() for file in ("config.json", OPEN_CLIP_CONFIG))
    ]
    return next((model for model in found if model.weights), found[0] if found else None)


def cached_repositories() -> list[tuple[str, str]]:
    """(ORG/NAME, family) of every cached repository whose files tell its family."""
    names: dict[str, str] = {}
    if not _anything_kept():
        return []
    for folder in sorted([*_folders(huggingface_cache(), "models--"), *_folders(converted_cache(), "")]):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        if _REPO.fullmatch(repo) and repo not in names:
            try:
                model = resolve(repo)
                kind = family_of(model.folder) if model else None
            except ModelError:  # damaged: it is named when somebody asks for it
                continue
            if kind:
                names[repo] = kind
    return list(names.items())


def family_of(folder: Path) -> str | None:
    """What a model is by its files: `biovil-t`, `biomedclip`, `open_clip`, or the `model_type` that config.json names.

    None where nothing tells.
    """
    config = read_json(folder / "config.json")
    named = config.get("architectures")
    if (folder / BIOVIL_IMAGE).is_file() or (isinstance(named, list) and "CXRBertModel" in named):
        return "biovil-t"
    kind = model_type(folder)
    if kind or not (folder / OPEN_CLIP_CONFIG).is_file():
        return kind
    settings = read_json(folder / OPEN_CLIP_CONFIG).get("model_cfg", {})
    towers = [settings.get(f"{tower}_cfg") if isinstance(settings, dict) else None for tower in ("vision", "text")]
    if not all(isinstance(one, dict) for one in towers):
        raise ModelError(f"{folder / OPEN_CLIP_CONFIG} does not describe two towers.", "Get the model again.")
    image, text = (one or {} for one in towers)
    return "biomedclip" if "timm_model_name" in image and "hf_model_name" in text else "open_clip"


def model_type(folder: Path) -> str | None:
    """`model_type` of a folder's config.json; None where it names none."""
    kind = read_json(folder / "config.json").get("model_type")
    return kind if isinstance(kind, str) else None


def read_json(path: Path) -> dict[str, Any]:
    """One of a model's settings files; empty where there is none. Raises ModelError: a damaged file."""
    try:
        content = json.loads(bounded.read(path, _LARGEST_SETTINGS).decode("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", "Delete the model's folder and get it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no settings.", "Delete the model's folder and get it again.")
    return content


def _folders(root: Path, prefix: str) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if path.is_dir() and path.name.startswith(prefix) and "--" in path.name]


def _snapshot(repo: str, commit: str) -> Path:
    return huggingface_cache() / f"models--{repo.replace('/', '--')}" / "snapshots" / commit


def _converted(repo: str, commit: str) -> Path:
    return converted_cache() / repo.replace("/", "--") / commit


def _commit_of(repo: str, revision: str | None) -> str | None:
    """The commit that a revision stands for here; None where that cannot be told."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    reference = _snapshot(repo, "").parent / "refs" / (revision or "main")
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    if revision:
        return None
    places = (_snapshot(repo, ""), _converted(repo, ""))
    commits = {path.name for place in places if place.is_dir() for path in place.iterdir() if path.is_dir()}
    return commits.pop() if len(commits) == 1 else None  # of several, none is the obvious one


def _commit_in_path(folder: Path) -> str | None:
    name = folder.absolute().name
    return name if _COMMIT.fullmatch(name) else None


def _read_folder(folder: Path, repo: str | None, revision: str | None) -> LocalModel:
    weights: tuple[Path, ...] = ()
    if (folder / WEIGHTS).is_file():
        weights = (folder / WEIGHTS,)
    elif (folder / WEIGHTS_INDEX).is_file():
        weights = _shards(folder)
    elif (folder / OPEN_CLIP_WEIGHTS).is_file():
        weights = (folder / OPEN_CLIP_WEIGHTS,)
    if weights and (folder / BIOVIL_IMAGE).is_file():
        weights += (folder / BIOVIL_IMAGE,)
    origin = read_json(folder / "source.json") if repo else {}
    others = [path for path in (*folder.glob("*.bin"), *folder.glob("*.pt")) if path.name != BIOVIL_IMAGE]
    return LocalModel(folder, repo, revision, weights, bool(others), origin.get("source_sha256"))


def _shards(folder: Path) -> tuple[Path, ...]:
    places = read_json(folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{folder / WEIGHTS_INDEX} names no file.", "Delete the model's folder and get it again.")
    names = sorted({Path(str(name)).name for name in places.values()})
    shards = tuple(folder / name for name in names)
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise ModelError(f"{folder} lacks {', '.join(absent)}, which its index names.", "Download the model again.")
    return shards


@contextmanager
def offline() -> Iterator[None]:
    """Within it the libraries that read models refuse to connect, whatever the environment says."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


# ------------------------------------------------------------------------------------------------------ downloading it


def split_revision(name: str) -> tuple[str, str | None]:
    """ORG/NAME@REVISION -> (ORG/NAME, REVISION).

    >>> split_revision("openai/clip-vit-base-patch32@main"), split_revision("openai/clip-vit-base-patch32")
    (('openai/clip-vit-base-patch32', 'main'), ('openai/clip-vit-base-patch32', None))
    """
    repo, _, revision = name.partition("@")
    return repo, revision or None

"""`linkage pull`: the only part that downloads, and the conversion of what it brought."""

from __future__ import annotations

import json
import os
import pickle  # for the name of its error; nothing is unpickled here
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from linkage_core.encoders.hub import (
    BIOVIL_IMAGE,
    CONVERTED,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_PICKLE,
    OPEN_CLIP_WEIGHTS,
    PICKLE,
    PUBLISHED,
    SMALL_FILES,
    WEIGHTS,
    WEIGHTS_INDEX,
    LocalModel,
    Published,
    _converted,
    _snapshot,
    check_published,
    huggingface_cache,
    is_folder_name,
    resolve,
    sha256_of,
    split_revision,
)
from linkage_core.errors import ModelError


def pull(name: str, progress: Callable[[str], None] | None = None) -> LocalModel:
    """Download a model: a name of PUBLISHED, `hf:ORG/NAME`, `hf:ORG/NAME@REVISION`, or `open_clip:` instead of `hf:`.
    Only what is needed is fetched.

    Published models come at a fixed commit (without a connection, where the pickle was copied into the cache); of
    others, what `main` is now. Where a repository offers its weights
    only as a pickle, it is read once with `weights_only=True` and written as safetensors into `converted_cache()`.
    `progress` is given one line of text a step.
    Raises ModelError: unknown or unreachable repository, no usable weights, a hash other than the published one.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    say = progress or (lambda line: None)
    published = PUBLISHED.get(name)
    kind, _, path = name.partition(":")
    if kind == "open_clip":
        from linkage_core.encoders.openclip import repository

        path = repository(path)
    repo, revision = (published.repo, published.revision) if published else split_revision(path)
    if not published and (kind not in ("hf", "open_clip") or is_folder_name(repo)):
        raise ModelError(
            f"{name!r} cannot be pulled.", f"Give one of {', '.join(PUBLISHED)}, hf:ORG/NAME or open_clip:ORG/NAME."
        )
    if published and _convert_here(published, say):
        found = resolve(repo, revision)
        if found and found.weights:
            return found
    if constants.is_offline_mode():
        raise ModelError(
            f"{name} cannot be downloaded: HF_HUB_OFFLINE is set.", "Unset it (and TRANSFORMERS_OFFLINE), then pull."
        )
    endpoint = os.environ.get("HF_ENDPOINT")
    # The bases are OSError and the error of the HTTP library, which has another name from release to release.
    failures: tuple[Any, ...] = (*HfHubHTTPError.__bases__, HFValidationError)
    try:
        say(f"asking for {repo} at {revision or 'main'}")
        info = HfApi(endpoint=endpoint).model_info(repo, revision=revision)
        commit = str(info.sha)
        wanted = _wanted(repo, [file.rfilename for file in info.siblings or []], kind == "open_clip")
        say(f"downloading {len(wanted)} files of commit {commit[:12]}")
        snapshot_download(
            repo, revision=commit, allow_patterns=wanted, cache_dir=huggingface_cache(), endpoint=endpoint
        )
    except failures as error:
        raise ModelError(
            f"{repo} at {revision or 'main'} could not be downloaded: {str(error).splitlines()[0]}",
            "Check the name, the network, the free disk and, for a gated repository, `hf auth login`. "
            "What came so far is kept.",
        ) from error
    if revision is None:
        _remember_main(repo, commit)
    for pickled in CONVERTED.keys() & set(wanted):
        say(f"converting {pickled} to {CONVERTED[pickled]}")
        convert(_snapshot(repo, commit), _converted(repo, commit), repo, commit, published, pickled)
    found = resolve(repo, commit)
    if found is None or not found.weights:
        raise ModelError(f"{repo} came without {WEIGHTS}.", "Pull it again; if that repeats, the repository is broken.")
    if published:
        for file in found.weights:
            check_published(file, published)
    say(f"{name} is at {found.folder}")
    return found


def _convert_here(published: Published, say: Callable[[str], None]) -> bool:
    """Convert a published model of which the pickle is here already, as on a machine that its cache was copied to."""
    here = resolve(published.repo, published.revision)
    if here is None or here.weights:
        return False
    names = [name for name in CONVERTED if name in published.hashes and (here.folder / name).is_file()]
    for name in names:
        say(f"converting {name} to {CONVERTED[name]}")
        target = _converted(published.repo, published.revision)
        convert(here.folder, target, published.repo, published.revision, published, name)
    return bool(names)


def _wanted(repo: str, files: list[str], open_clip: bool = False) -> list[str]:
    """The files to fetch: the small ones and the weights, as safetensors, or as a pickle where that is all there is.

    `open_clip`: of a repository that holds two formats, open_clip's.
    """
    if "config.json" not in files and OPEN_CLIP_CONFIG not in files:
        raise ModelError(
            f"{repo} has neither config.json nor {OPEN_CLIP_CONFIG}.", "Only transformers and open_clip models load."
        )
    small = [file for file in files if file in SMALL_FILES]
    shards = [file for file in files if re.fullmatch(r"model-\d+-of-\d+\.safetensors", file)]
    formats = [[WEIGHTS], [WEIGHTS_INDEX, *shards], [OPEN_CLIP_WEIGHTS], [PICKLE], [OPEN_CLIP_PICKLE]]
    if open_clip or "config.json" not in files:
        formats = [[OPEN_CLIP_WEIGHTS], [OPEN_CLIP_PICKLE]]
    weights = next((names for names in formats if names[0] in files), None)
    if weights is None:
        raise ModelError(
            f"{repo} has none of {', '.join(names[0] for names in formats)}.",
            "Choose a repository with PyTorch weights.",
        )
    return [*small, *weights, *([BIOVIL_IMAGE] if BIOVIL_IMAGE in files else [])]


def _remember_main(repo: str, commit: str) -> None:
    """A download by commit leaves no reference behind; `resolve` without a revision needs one."""
    reference = _snapshot(repo, "").parent / "refs" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit, encoding="utf-8")


def convert(
    source: Path, target: Path, repo: str, commit: str, published: Published | None = None, name: str = PICKLE
) -> None:
    """Write a repository whose weights are a pickle once more, as safetensors, whole or not at all.

    The pickle is read by torch's restricted loader, which builds tensors and nothing else, and only after its hash was
    compared with the published one where that is known. `source.json` records both hashes.
    """
    import torch
    from safetensors.torch import save_file

    pickled, converted = source / name, CONVERTED[name]
    if published:
        check_published(pickled, published)
    digest = sha256_of(pickled)
    try:
        state: Any = torch.load(pickled, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{pickled} is not a plain file of tensors: {error}", "It is not used.") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{pickled} does not hold named tensors.", "It is not used.")
    target.parent.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        for file in (*SMALL_FILES, BIOVIL_IMAGE):
            if (source / file).is_file():
                shutil.copyfile(source / file, half_done / file)
        tensors = {
            key: value.clone().contiguous() for key, value in state.items()
        }  # a copy each: none may share memory
        save_file(tensors, half_done / converted, metadata={"format": "pt"})
        origin = {
            "repo": repo,
            "revision": commit,
            "source_file": name,
            "source_sha256": digest,
            "weights_sha256": sha256_of(half_done / converted),
        }
        (half_done / "source.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        half_done.rename(target)
    finally:
        shutil.rmtree(half_done, ignore_errors=True)

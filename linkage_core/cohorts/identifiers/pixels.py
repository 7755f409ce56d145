"""Words in the pixels of a radiograph, read by tesseract where it is installed.

It is a program of the distribution (Debian and Ubuntu: tesseract-ocr), called by its command line with the picture on
its standard input, one image a process of bounded time. Nothing is written to disk. What radiographers set beside the
chest (side, projection, posture) are no identifiers: MARKERS.
"""

from __future__ import annotations

import difflib
import io
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from linkage_core.errors import ImageError
from linkage_core.images.pixels import WHITE

PROGRAM = "tesseract"
SECONDS = 40
MEMORY = 1 << 31
LEAST_SIDE, MOST_SIDE = 1024, 2048
"""Pixels of the longer side that tesseract sees: a small picture is made larger, for it reads letters of 20 and more,
and a large one smaller, for its time."""
BRIGHT = 0.87
"""Share of the brightest value below which nothing is left in the second picture: letters are set in white."""
SURE = 60.0
"""Least confidence (0..100) of a word that counts."""
FEWEST_LETTERS = 3
LIKE = 0.75
"""Share of letters (difflib) from which a word is a misread marker."""
MARKERS = (
    *("LAT", "LATERAL", "LEFT", "RIGHT", "LPO", "RPO", "LAO", "RAO", "PORT", "PORTABLE", "MOBILE", "UPRIGHT", "ERECT"),
    *("SUPINE", "PRONE", "SEMI", "SITTING", "STANDING", "SEATED", "DECUB", "DECUBITUS", "BED", "INSP", "INSPIRATION"),
    *("EXP", "EXPIRATION", "GRID", "CHEST", "THORAX", "VIEW", "KVP", "MAS", "OBL", "OBLIQUE", "SYNTHETIC", "PHANTOM"),
)


@cache
def version() -> str:
    """The first line that the program says of itself, "" where there is none."""
    if shutil.which(PROGRAM) is None:
        return ""
    try:
        done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout or done.stderr).splitlines()[0].strip() if done.returncode == 0 else ""


def has_words(pixels: np.ndarray) -> bool:
    """Whether words stand in an image, (height, width) uint16, that are no markers.

    A word has FEWEST_LETTERS letters or digits and a confidence of SURE. ImageError where the program failed on it.
    """
    return any(not _is_marker(word) for picture in _pictures(pixels) for word in _read(picture))


def _is_marker(word: str) -> bool:
    """
    >>> _is_marker("ERECI"), _is_marker("RTABLE"), _is_marker("SMITH")
    (True, True, False)
    """
    return bool(difflib.get_close_matches(word.upper(), MARKERS, n=1, cutoff=LIKE))


def _pictures(pixels: np.ndarray) -> Iterator[bytes]:
    """The image as tesseract sees it, 8 bits and dark letters: as a whole, and its brightest part alone."""
    whole = Image.fromarray((pixels // ((WHITE + 1) // 256)).astype(np.uint8))
    scale = min(max(1.0, LEAST_SIDE / max(whole.size)), MOST_SIDE / max(whole.size))
    size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    grey = np.asarray(whole.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
    bright = np.clip((grey / max(1.0, float(grey.max())) - BRIGHT) / (1 - BRIGHT), 0, 1) * 255
    for one in (grey, bright):
        out = io.BytesIO()
        Image.fromarray((255 - one).astype(np.uint8)).save(out, "PNG", compress_level=1)
        yield out.getvalue()


def _read(picture: bytes) -> list[str]:
    """The words, each without what is no letter or digit."""
    try:
        done = subprocess.run(
            [PROGRAM, "stdin", "stdout", "--psm", "11", "--dpi", "150", "tsv"],
            input=picture,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"},
            preexec_fn=_bounded,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError("damaged", "tesseract could not read the pixels.", "Look at the image by eye.") from error
    if done.returncode:
        raise ImageError("damaged", "tesseract failed on the pixels.", "Look at the image by eye.")
    words = []
    for line in done.stdout.decode(errors="replace").splitlines()[1:]:
        cells = line.split("\t")
        if len(cells) < 12 or float(cells[10]) < SURE:
            continue
        word = re.sub(r"[^\w]|_", "", cells[11])
        if len(word) >= FEWEST_LETTERS:
            words.append(word)
    return words


def _bounded() -> None:
    """Of the new process: its time and memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

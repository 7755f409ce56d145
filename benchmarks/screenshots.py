"""Pictures of every page at 1280 x 800 and 1920 x 1080, light and dark.

python benchmarks/screenshots.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from driven import open_page, running  # noqa: E402

PAGES = {
    "start": "/",
    "examples": "/examples",
    "risk": "/risk?N=1000",
    "compared": "/risk?tab=compare",
    "decoys": "/risk?tab=decoys",
    "missing-match": "/missing-match?N=10&wanted=80",
    "exposure": "/exposure",
    "mitigation": "/mitigation",
    "release": "/mitigation?N=10000&mechanism=statistics",
    "frontier": "/frontier?N=10000",
    "frontier-trained": "/frontier?N=10000&use=trained",
}
SIZES = ((1280, 800), (1920, 1080))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("Say where to: python benchmarks/screenshots.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with running() as url:
        for name, path in PAGES.items():
            for width, height in SIZES:
                for scheme in ("light", "dark"):
                    with open_page(url + path, width, height, scheme) as page:
                        target = folder / f"{name}-{width}x{height}-{scheme}.png"
                        page.screenshot(path=target)
                        print(target)


if __name__ == "__main__":
    main()

"""Where things lie: the checkout, and real data beside it where somebody keeps some."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
SHIPPED = ROOT / "cached_embeddings"

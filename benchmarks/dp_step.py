"""Ghost-norm private steps beside Opacus' per-example gradients, in one run: time and agreement.

    python benchmarks/dp_step.py [--json benchmarks/dp_step.json]

Both sides do the same work on the same batch: head outputs, losses' gradients, per-pair norms over both heads,
clipping, the sum. Features of 512 (images) and 768 (texts) dimensions, heads of 128. Noise is the same for both, left
out; a figure says what it costs. The last figures are a whole DP-SGD label head on 20,000 pairs of 10,000 patients, and
heads at a new epsilon from sums that are already there. Seconds of the clock and of the processor: the machine may be
shared, and `load` says how much.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linkage_core.cohorts.base import LABELS
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.engine import ClosedForm, Pairs, Recipe, Towers, train
from linkage_core.mitigation.noise import System
from linkage_core.mitigation.objectives import Label, PublicNegatives, targets
from linkage_core.mitigation.opacus_engine import Opacus
from linkage_core.store.files import versions

D_IMAGE, D_TEXT, WIDTH, CLIP = 512, 768, 128, 0.1


def best(work: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """(shortest seconds by the clock, shortest by the processor, last result)."""
    clock, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        result = work()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return min(clock), min(processor), result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    shelf = Towers(rng.standard_normal((WIDTH, D_IMAGE + 1)) / 20, rng.standard_normal((WIDTH, D_TEXT + 1)) / 20)
    bank = [b / np.linalg.norm(b, axis=1, keepdims=True) for b in rng.standard_normal((2, 256, WIDTH))]
    for batch in (512, 1024, 2048, 4096):
        images = rng.standard_normal((batch, D_IMAGE)).astype(np.float32)
        texts = rng.standard_normal((batch, D_TEXT)).astype(np.float32)
        pairs, which = Pairs.of(images, texts, np.arange(batch)), np.arange(batch)
        losses = {
            "label": Label(rng.choice([0.0, 1.0], size=(batch, WIDTH))),
            "public-negatives": PublicNegatives(bank[0], bank[1]),
        }
        for name, objective in losses.items():
            ours, ours_cpu, a = best(
                lambda o=objective, p=pairs, w=which: ClosedForm().clipped_sum(o, shelf, p, w, CLIP), 2 * chosen.repeats
            )
            theirs, theirs_cpu, b = best(
                lambda o=objective, p=pairs, w=which: Opacus().clipped_sum(o, shelf, p, w, CLIP), chosen.repeats
            )
            rows.append(
                {
                    "batch": batch,
                    "loss": name,
                    "closed_form_ms": 1e3 * ours,
                    "opacus_ms": 1e3 * theirs,
                    "times_faster": theirs / ours,
                    "closed_form_cpu_ms": 1e3 * ours_cpu,
                    "opacus_cpu_ms": 1e3 * theirs_cpu,
                    "times_less_processor": theirs_cpu / ours_cpu,
                    "relative_difference": a.plus(b, -1.0).norm / a.norm,
                }
            )
            print(json.dumps(rows[-1]))
    noise, _, _ = best(lambda: ClosedForm().noised(shelf, 1.0, System()), chosen.repeats)
    report = {
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine()},
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "dims": {"image": D_IMAGE, "text": D_TEXT, "embedding": WIDTH},
        "rows": rows,
        "noise_ms": 1e3 * noise,
        **whole_runs(rng),
        "versions": versions(),
    }
    print(json.dumps({key: value for key, value in report.items() if key != "rows"}))
    chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def whole_runs(rng: np.random.Generator) -> dict[str, float]:
    """Seconds of a DP-SGD head on 20,000 pairs; milliseconds of one-shot heads at a new epsilon."""
    n, k = 20_000, len(LABELS)
    labels = rng.choice([np.nan, 0.0, 1.0], size=(n, k))
    images, texts = (rng.standard_normal((n, d)).astype(np.float32) for d in (D_IMAGE, D_TEXT))
    patients = np.arange(n) // 2
    start, used = time.perf_counter(), time.process_time()
    x, t = oneshot.unit_rows(images), oneshot.unit_rows(texts)
    pairs = Pairs.of(x, t, patients, 0.0)
    sigma = accounting.dpsgd_sigma(1.0, 1e-6, 0.05, 200)
    zero = Towers(np.zeros((k, D_IMAGE + 1)), np.zeros((k, D_TEXT + 1)))
    train(zero, pairs, Label(targets(labels, LABELS)[pairs.order]), Recipe(0.1, 0.05, 200, 50.0, sigma, 0.9), System())
    head, head_cpu = time.perf_counter() - start, time.process_time() - used
    start = time.perf_counter()
    made = oneshot.prepare(oneshot.LABEL, images, texts, patients, labels, LABELS)
    prepared = time.perf_counter() - start
    again, _, _ = best(lambda: made.heads(0.5, 1e-6), 5)
    small = oneshot.prepare(oneshot.LABEL, images[:, :64], texts[:, :64], patients, labels, LABELS)
    phantom, _, _ = best(lambda: small.heads(0.5, 1e-6), 5)
    return {
        "dpsgd_label_head_20000_pairs_s": head,
        "dpsgd_label_head_20000_pairs_cpu_s": head_cpu,
        "one_shot_sums_20000_pairs_s": prepared,
        "one_shot_heads_512_768_ms": 1e3 * again,
        "one_shot_heads_64_64_ms": 1e3 * phantom,
    }


if __name__ == "__main__":
    main()

"""How far the learning rate alone moves a reading of the study's recipe, at one epsilon and delta.

    python benchmarks/paper_rates.py [--store DIR]

The study states no rate. DIR needs all finetuning pairs (linkage phantom build --splits finetune), else the sample that
ships is trained on, and the file says so. Writes benchmarks/paper_rates.json: for each rate the change of cosine's
Recall@1 against off-the-shelf heads, in percent, at N = 100 and 10,000, with its patient-clustered 95% interval.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from linkage_core.audit import compare
from linkage_core.audit.study import study, study_of
from linkage_core.mitigation import finetune, mechanisms
from linkage_core.mitigation.finetune import Options
from linkage_core.mitigation.training import pairs_of
from linkage_core.store.entry import Store
from linkage_core.study.design import PRESETS

SHIPPED = Path(__file__).resolve().parents[1] / "cached_embeddings"
MODEL = "phantom-radiology"
SIZES = (100, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=SHIPPED)
    options = parser.parse_args()
    store, design = Store(options.store), PRESETS["arxiv-2606.02276"]
    entry, training = store.open("phantom", MODEL), pairs_of(store.open("phantom-finetune", MODEL), "all")
    before = study(entry)
    patients = before.queries["patient_id"].to_numpy(str)
    asked = Options(epsilon=design.epsilon, delta=design.delta, allow_large_delta=True, unit="pair", seed=0)
    rows: list[dict[str, Any]] = []
    for rate in design.rates:
        started = time.perf_counter()
        of_rate = Options(**{**vars(asked), "rate": rate})
        heads, record = finetune.finetune(entry, mechanisms.PAPER, of_rate, training=training)
        after = study_of(entry, f"paper at rate {rate:g}", heads)
        for n in SIZES:
            found = compare.relative_change(before.recall(n, 1)[0], after.recall(n, 1)[0], patients)
            change = {name: round(float(found[name]), 2) for name in ("change", "low", "high")}
            said = {"epsilon": design.epsilon, "delta": record["delta"], "flag": found["flag"]}
            rows.append({"rate": f"{rate:g}", "N": n, **change, **said})
        print(json.dumps(rows[-len(SIZES) :]), f"{time.perf_counter() - started:.0f} s", flush=True)
    result = {"model": MODEL, "pairs": len(training.patients), "study's pairs, at most": 333_152, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

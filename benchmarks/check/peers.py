"""Wrong labels found by the check and by each of cleanlab's filters, on the same rows with the same planted flips.

    python benchmarks/check/peers.py --bench DIR        # needs: pip install cleanlab

The filters are given two kinds of out-of-sample probabilities: of a logistic regression over TF-IDF of words and
character n-grams in five folds, the classifier that cleanlab's guide to text would put in the place of an embedding where
none is to be had; and the check's own, which are the better ones. Results go to results/mislabelled_peers.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plant import LABELS, answer, asked, plant, rows_for
from planted import keep

from journeyman.data.check.classify import judge
from journeyman.data.check.labels import WORTH_A_LOOK

FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given", "low_normalized_margin", "low_self_confidence")
KINDS = ("regression", "the check's")
RUN = ("set", "fault", "share", "seed", "rows", "filter", "probabilities")
LEARNED = 0.6
FAULTS = ("random_flips", "confusable_flips")


def plain_probabilities(inputs: Sequence[str], given_N: Any) -> Any:
    """Out-of-sample probabilities of a plain classifier of text.

    Raises ValueError where it has learned next to nothing: filters of such probabilities would be no peers.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=3, max_features=30_000)
    model = make_pipeline(make_union(words, characters), LogisticRegression(C=20, max_iter=200))
    probable_NK = cross_val_predict(model, inputs, given_N, cv=StratifiedKFold(5, shuffle=True, random_state=0), method="predict_proba")
    agreed = float((probable_NK.argmax(axis=1) == given_N).mean())
    if agreed < LEARNED:
        raise ValueError(f"the classifier agrees with {agreed:.0%} of the labels only")
    return probable_NK


def measured(found: set[int], faulty: set[int]) -> dict[str, float]:
    right = len(found & faulty)
    precision, recall = right / max(len(found), 1), right / len(faulty)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(2 * right / (len(found) + len(faulty)), 4)}


def results(bench: Path, name: str, fault: str, share: float, seed: int, rows: int | None, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The check, and each filter on each kind of probabilities."""
    from cleanlab.filter import find_label_issues

    train, _ = rows_for(fault, bench, name, seed)
    planted = plant(fault, train[:rows], [], share, seed)
    made = [json.loads(line) for line in planted.train]
    faulty = {index for places in planted.faults for _, index in places}
    inputs, labels = [asked(row) for row in made], [answer(row) for row in made]
    judged = judge(inputs, labels)
    run = {"set": name, "fault": fault, "share": share, "seed": seed, "rows": len(made)}
    yield {**run, "filter": "`mislabelled_rows`", "probabilities": "its own", **measured(set(np.flatnonzero(judged.wrong > WORTH_A_LOOK).tolist()), faulty)}
    for kind in kinds:
        probable_NK = judged.probable_NK if kind == "the check's" else plain_probabilities(inputs, judged.given_N)
        for filter_by in FILTERS:
            found = np.flatnonzero(find_label_issues(judged.given_N, probable_NK, filter_by=filter_by, n_jobs=1))
            yield {**run, "filter": f"cleanlab {filter_by}", "probabilities": kind, **measured(set(found.tolist()), faulty)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", choices=LABELS, nargs="+", default=LABELS)
    parser.add_argument("--faults", choices=FAULTS, nargs="+", default=FAULTS)
    parser.add_argument("--rows", type=int, help="only the first so many")
    parser.add_argument("--probabilities", choices=KINDS, nargs="+", default=KINDS, help="the regression takes long on all rows")
    wanted = parser.parse_args()
    for set_name in wanted.sets:
        for planted_fault in wanted.faults:
            for seed in wanted.seeds:
                for result in results(wanted.bench, set_name, planted_fault, wanted.share, seed, wanted.rows, wanted.probabilities):
                    keep("mislabelled_peers.jsonl", result, RUN)
                    print(result, file=sys.stderr, flush=True)

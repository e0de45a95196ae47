"""What label each input would be given by models that have not seen it: the basis for finding wrong ones.

Naive Bayes over words and character n-grams and a logistic regression over their latent semantic analysis each predict every row
from the other folds, and `noise.py` weighs the given labels by their average. Where labels seem to be given for certain others, the models
have learned that too: the rows that look wrong are left out, both predict once more, and all four predictions together judge.
Of the cheap classifiers tried on BANKING77 and CLINC150 with planted faults these two complement each other best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from journeyman.data.check.noise import Labels, Matrix, Noise, noise, softmax

Mask = npt.NDArray[np.bool_]

FOLDS = 5
DIMENSIONS = 400
FITTED_ROWS = 20_000
"""Of more rows each model learns from so many, drawn evenly, and predicts the rest too: time stays linear."""

CHARACTERS = 200
"""Character n-grams are taken from so much of an input: what it is about is said early."""

WORDS_CHARACTERS = 2_000

DOUBTFUL = 0.2
"""A row whose label is wrong with so high a probability teaches nothing in the second round."""

FLOOR = 1e-9


@dataclass(frozen=True)
class Judged:
    """What the models say of each row. `probable_NK` has a column for each of `labels`."""

    labels: list[str]
    given_N: Labels
    probable_NK: Matrix
    true_NK: Matrix
    """The same where the given label is known, with what is known of how labels go wrong here."""

    random_share: float
    """The estimated share of labels that were drawn at random."""

    confused: bool
    """Whether labels seem to be given for certain others."""

    def given(self, row: int) -> str:
        """The label that the row has."""
        return self.labels[int(self.given_N[row])]

    @property
    def wrong(self) -> Matrix:
        """The probability that the row's label is wrong."""
        return _wrong(self.true_NK, self.given_N)

    @property
    def guessed(self) -> float:
        """The share of rows whose given label is the one that the models hold for the most probable."""
        return float((self.probable_NK.argmax(axis=1) == self.given_N).mean())

    @property
    def wrong_share(self) -> float:
        """The estimated share of wrong labels."""
        return float(self.wrong.mean())

    @property
    def best_other(self) -> Labels:
        """The label that is the true one most probably, if the given one is not."""
        others_NK = self.true_NK.copy()
        others_NK[np.arange(len(others_NK)), self.given_N] = -1
        return np.asarray(others_NK.argmax(axis=1), np.int64)


def judge(inputs: Sequence[str], labels: Sequence[str]) -> Judged:
    """Judge each row's label by the other rows. There must be two labels at least; the same rows give the same answer."""
    names = sorted(set(labels))
    number = {name: n for n, name in enumerate(names)}
    given_N = np.array([number[label] for label in labels], np.int64)
    folds_N = _folds(given_N)
    words, latent = _features(inputs)
    everything = np.ones(len(given_N), np.bool_)

    def predicted(kept_N: Mask) -> list[Matrix]:
        by_words = _predict(_naive_bayes, words, given_N, folds_N, kept_N, len(names))
        by_meaning = _predict(_regression, latent, given_N, folds_N, kept_N, len(names))
        return [_calibrated(scores, given_N) for scores in (by_words, by_meaning)]

    def weighed(probable: Sequence[Matrix]) -> tuple[Matrix, Noise]:
        scores_NK = _mean_log(probable)
        return scores_NK, noise(scores_NK, given_N, _evenly(np.arange(len(given_N))))

    first = predicted(everything)
    scores_NK, found = weighed(first)
    if found.confused:
        scores_NK, found = weighed([*first, *predicted(_wrong(found.true_NK, given_N) < DOUBTFUL)])
    return Judged(names, given_N, _calibrated(scores_NK, given_N), found.true_NK, found.random_share, found.confused)


def _wrong(true_NK: Matrix, given_N: Labels) -> Matrix:
    """The probability that the row's label is wrong, from each label's probability to be the true one."""
    return np.asarray(1 - true_NK[np.arange(len(given_N)), given_N], np.float32)


def _folds(given_N: Labels) -> Labels:
    """A fold for each row; each label's rows are dealt out evenly."""
    order = np.random.default_rng(0).permutation(len(given_N))
    by_label = order[np.argsort(given_N[order], kind="stable")]
    folds_N = np.empty(len(given_N), np.int64)
    folds_N[by_label] = np.arange(len(given_N)) % FOLDS
    return folds_N


def _features(inputs: Sequence[str]) -> tuple[Any, Matrix]:
    """TF-IDF of words and character n-grams, and its latent semantic analysis (Deerwester et al. 1990)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    least = 2 if len(inputs) > 100 else 1
    counted = make_union(
        TfidfVectorizer(
            preprocessor=_beginning, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", sublinear_tf=True,
            min_df=least, dtype=np.float32,
        ),
        TfidfVectorizer(
            preprocessor=_short_beginning, analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=least,
            dtype=np.float32,
        ),
    )  # fmt: skip
    some = _evenly(np.arange(len(inputs)))
    counted.fit([inputs[i] for i in some])
    words = counted.transform(inputs).tocsr()
    dimensions = min(DIMENSIONS, len(some) - 1, words.shape[1] - 1)
    if dimensions < 2:
        return words, words.toarray()
    latent = TruncatedSVD(dimensions, n_iter=2, random_state=0).fit(words[some]).transform(words)
    length = np.linalg.norm(latent, axis=1, keepdims=True)
    return words, np.asarray(latent / np.maximum(length, FLOOR), np.float32)


def _beginning(text: str) -> str:
    return text[:WORDS_CHARACTERS].casefold()


def _short_beginning(text: str) -> str:
    return text[:CHARACTERS].casefold()


def _evenly(rows: Labels) -> Labels:
    """At most FITTED_ROWS of the rows, evenly spaced."""
    if len(rows) <= FITTED_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, FITTED_ROWS).astype(np.int64)]


def _predict(model: Any, features: Any, given_N: Labels, folds_N: Labels, kept_N: Mask, labels: int) -> Matrix:
    """Log-probabilities of each row's labels, from a model of the other folds' kept rows."""
    out_NK = np.full((len(given_N), labels), math.log(FLOOR), np.float32)
    for fold in range(FOLDS):
        learned = _evenly(np.flatnonzero((folds_N != fold) & kept_N))
        asked = np.flatnonzero(folds_N == fold)
        known, scores = model(features[learned], given_N[learned], features[asked])
        out_NK[np.ix_(asked, known)] = np.maximum(scores, math.log(FLOOR))
    return out_NK


def _naive_bayes(features: Any, given: Labels, asked: Any) -> tuple[Labels, Matrix]:
    from sklearn.naive_bayes import MultinomialNB

    model = MultinomialNB(alpha=0.05).fit(features, given)
    return model.classes_, model.predict_log_proba(asked)


def _regression(features: Matrix, given: Labels, asked: Matrix) -> tuple[Labels, Matrix]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(set(given.tolist())) < 2:
        return given[:1], np.zeros((len(asked), 1), np.float32)
    with warnings.catch_warnings():
        # A step more would move the probabilities by less than the calibration does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=3.0, max_iter=100, tol=1e-3).fit(features, given)
    return model.classes_, np.log(model.predict_proba(asked) + FLOOR)


def _mean_log(probable: Sequence[Matrix]) -> Matrix:
    return np.asarray(sum(np.log(one + FLOOR) for one in probable) / len(probable), np.float32)


def _calibrated(scores_NK: Matrix, given_N: Labels) -> Matrix:
    """Probabilities whose sharpness fits the given labels best (temperature scaling, Guo et al. 2017)."""
    some = _evenly(np.arange(len(given_N)))

    def surprise(sharpness: float) -> float:
        chosen = softmax(scores_NK[some], sharpness)[np.arange(len(some)), given_N[some]]
        return float(-np.log(chosen + FLOOR).mean())

    return softmax(scores_NK, min(np.geomspace(0.05, 20, 50).tolist(), key=surprise))

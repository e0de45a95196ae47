"""Labels are weighed by how labels of these rows go wrong."""

import numpy as np
import pytest

from journeyman.data.check.noise import Labels, Matrix, noise

ROWS, LABELS = 3_000, 12
SHARE = 0.06


def told_apart(true_N: Labels) -> Matrix:
    """Log-probabilities of a model that takes a label for the one after it now and then."""
    draw = np.random.default_rng(1)
    scores_NK = draw.normal(0, 1.0, (ROWS, LABELS))
    scores_NK[np.arange(ROWS), true_N] += 6
    scores_NK[np.arange(ROWS), (true_N + 1) % LABELS] += draw.normal(1.5, 1.5, ROWS)
    return np.asarray(scores_NK - np.log(np.exp(scores_NK).sum(axis=1, keepdims=True)), np.float32)


@pytest.mark.parametrize("kind", ["none", "random", "confused"])
def test_the_kind_and_the_rows_of_wrong_labels_are_found(kind: str) -> None:
    draw = np.random.default_rng(0)
    true_N = draw.integers(0, LABELS, ROWS)
    given_N = true_N.copy()
    flipped = draw.random(ROWS) < (0 if kind == "none" else SHARE)
    steps = draw.integers(1, LABELS, ROWS) if kind == "random" else 1
    given_N[flipped] = ((true_N + steps) % LABELS)[flipped]

    found = noise(told_apart(true_N), given_N, np.arange(ROWS))

    wrong = 1 - found.true_NK[np.arange(ROWS), given_N] > 0.5
    assert found.confused == (kind == "confused")
    assert np.allclose(found.true_NK.sum(axis=1), 1, atol=1e-3)
    if kind == "none":
        assert wrong.mean() < 0.002
    else:
        assert (wrong & flipped).sum() > 0.8 * flipped.sum()
        assert (wrong & flipped).sum() > 0.8 * wrong.sum()
    assert found.random_share == pytest.approx(SHARE if kind == "random" else 0, abs=0.03)


def test_rows_that_were_not_fitted_to_are_judged_too() -> None:
    true_N = np.random.default_rng(0).integers(0, LABELS, ROWS)
    given_N = np.where(np.arange(ROWS) % 20 == 0, (true_N + 1) % LABELS, true_N)
    found = noise(told_apart(true_N), given_N, np.arange(0, ROWS, 2) + np.arange(ROWS // 2) % 2)
    assert found.confused
    assert (found.true_NK.argmax(axis=1) == true_N).mean() > 0.97

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.grade.similarity import METRICS, bleu, fuzzy_match, gleu, longest_common, rouge, rouge_l

words = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=12)
texts = words.map(" ".join)


def test_rouge_of_lins_example():
    # Lin 2004, section 3.1: S1 reference, S2 and S3 candidates; ROUGE-2 is equal, ROUGE-L is 3/4 and 2/4.
    reference, s2, s3 = "police killed the gunman", "police kill the gunman", "the gunman kill police"
    assert rouge(2)(s2, reference) == rouge(2)(s3, reference) == pytest.approx(1 / 3)
    assert rouge_l(s2, reference) == pytest.approx(3 / 4)
    assert rouge_l(s3, reference) == pytest.approx(2 / 4)


def test_bleu_clips_as_papineni_shows():
    # Papineni 2002, section 2.1: "the" seven times has a clipped unigram precision of 2/7; no bigram matches.
    reference = "the cat is on the mat"
    added_one = [2 / 7, 1 / 7, 1 / 6, 1 / 5]
    assert bleu("the the the the the the the", reference) == pytest.approx(math.prod(added_one) ** 0.25)


def test_bleu_punishes_brevity():
    reference = "a b c d e f g h"
    assert bleu("a b c d", reference) == pytest.approx(math.exp(1 - 8 / 4))
    assert bleu("x y", reference) == 0


def test_gleu_by_hand():
    # "a b c" against "a b d": unigrams 2, bigrams 1 of 3 + 2 + 1 = 6 on each side.
    assert gleu("a b c", "a b d") == pytest.approx(3 / 6)
    assert gleu("a", "a b") == pytest.approx(1 / 3)


def test_fuzzy_match_ignores_case_and_punctuation():
    assert fuzzy_match("Hello world!", "hello World") == 1
    assert fuzzy_match("!!!", "!!!") == 1
    assert fuzzy_match("apple", "zzz") < 0.3


@settings(max_examples=50)
@given(texts, texts, st.sampled_from(sorted(METRICS)))
def test_every_metric_is_between_0_and_1_and_1_for_itself(a, b, name):
    metric = METRICS[name]
    assert 0 <= metric(a, b) <= 1
    assert metric(a, a) == pytest.approx(1)


@given(texts.filter(bool), st.sampled_from(sorted(METRICS)))
def test_nothing_is_like_no_text(a, name):
    assert METRICS[name]("", a) == METRICS[name](a, "") == 0


@given(texts, texts, st.sampled_from(["gleu", "rouge_1", "rouge_2", "rouge_l"]))
def test_symmetric_metrics(a, b, name):
    assert METRICS[name](a, b) == METRICS[name](b, a)


@given(words, words)
def test_the_longest_common_subsequence_agrees_with_the_recursive_definition(a, b):
    a, b = a[:6], b[:6]

    def recursive(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + recursive(i + 1, j + 1)
        return max(recursive(i + 1, j), recursive(i, j + 1))

    assert longest_common(a, b) == recursive(0, 0)

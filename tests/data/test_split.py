from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeyman.data.similar import near_groups, normalised
from journeyman.data.split import split
from journeyman.errors import DataError

WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "ru", "te", "vo", "zu") for b in ("ban", "del", "fir", "gos", "hum")
]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of eight random words: no two near each other."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=8)) + f" {i}" for i in range(count)]


def splits(texts: list[str], seed: int = 0) -> dict[str, str]:
    return dict(zip(texts, split(texts, near_groups(texts), seed=seed), strict=True))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I reset my password?", "how do i reset  my PASSWORD"),
        ("a b c d b", "b c d b"),  # just at the threshold, and what differs is rarest
        ("How do I reset my password?", "How do I reset my password please?"),
        ("Ｗｈｅｒｅ is my order", "where is my order"),
        (
            "my lamp arrived with a broken shade and no bulb in the box",
            "my lamp arrived with a broken shade and no bulb inside the box",
        ),
        ("我的订单什么时候到达上海", "我的订单什么时候到达上海呢"),
    ],
)
def test_near_duplicates_share_a_group(a: str, b: str) -> None:
    assert near_groups([a, "something else entirely", b]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Can I cancel my order?", "Can I cancel my card?"),
        ("What is 17 + 25?", "What is 17 * 25?"),
        ("yes", "no"),
        ("!!!", "???"),
        ("", "x"),
    ],
)
def test_different_inputs_do_not(a: str, b: str) -> None:
    assert near_groups([a, b]) == [0, 1]


def test_groups_are_linked_through_a_common_neighbour() -> None:
    words = [f"w{i}" for i in range(14)]
    chain = [" ".join(words[i : i + 12]) for i in range(3)]
    assert near_groups([chain[0], chain[2]]) == [0, 1]
    assert near_groups([chain[0], chain[2], chain[1]]) == [0, 0, 0]


def test_a_pasted_instruction_does_not_make_all_rows_the_same() -> None:
    paste = "Read the customer's message below and answer with one label out of the nine that we use, in lower case: "
    texts = [f"{paste}{WORDS[i % 35]} {WORDS[i // 35]}{i}" for i in range(60)]
    assert len(set(near_groups(texts))) == 60
    assert len(set(near_groups(texts[:5]))) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=14), st.randoms())
def test_groups_do_not_depend_on_the_order(texts: list[str], draw: random.Random) -> None:
    def parts(order: list[str]) -> set[frozenset[str]]:
        groups = near_groups(order)
        return {frozenset(t for t, g in zip(order, groups, strict=True) if g == group) for group in groups}

    assert parts(texts) == parts(draw.sample(texts, len(texts)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7).map(" ".join), max_size=12))
def test_no_pair_is_missed(texts: list[str]) -> None:
    def parts(text: str) -> set[str]:
        words = normalised(text).split()
        return {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}

    groups = near_groups(texts)
    for a, one in enumerate(texts):
        for b, other in enumerate(texts):
            if len(parts(one) & parts(other)) >= 0.75 * len(parts(one) | parts(other)):
                assert groups[a] == groups[b]


def test_groups_of_15000_rows_are_found_quickly() -> None:
    import time

    started = time.process_time()
    texts = sentences(15_000)
    assert len(set(near_groups(texts + texts[:50]))) == 15_000
    assert time.process_time() - started < 20


@settings(max_examples=25, deadline=None)
@given(st.integers(100, 160), st.integers(0, 3), st.randoms())
def test_the_same_row_lands_in_the_same_split_whatever_the_order(
    count: int, seed: int, draw: random.Random
) -> None:
    texts = sentences(count)
    texts += [text + " please" for text in texts[:20]]
    count += 20
    assert splits(texts, seed) == splits(draw.sample(texts, count), seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(1, 200))
def test_rows_that_are_added_move_no_other_row(seed: int, more: int) -> None:
    texts = sentences(300)
    before, after = splits(texts, seed), splits(texts + sentences(more, seed=9), seed)
    assert {text: after[text] for text in texts} == before


def test_a_near_duplicate_goes_where_its_group_goes() -> None:
    texts = sentences(200)
    twins = [text + " please" for text in texts]
    names = split(texts + twins, near_groups(texts + twins))
    assert names[:200] == names[200:]


def test_shares_are_kept_roughly_and_seeds_differ() -> None:
    texts = sentences(2000)
    counts = Counter(splits(texts).values())
    assert 250 < counts["held_out"] < 350
    assert 160 < counts["validation"] < 240
    assert splits(texts, 0) != splits(texts, 1)


@pytest.mark.parametrize(
    ("rows", "least"),
    [
        (0, (0, 0, 0)),
        (1, (1, 0, 0)),
        (2, (2, 0, 0)),
        (3, (1, 1, 1)),
        (10, (5, 1, 2)),
        (20, (10, 2, 3)),
        (60, (30, 6, 9)),
        (100, (60, 10, 10)),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_small_dataset_has_some_of_each(rows: int, least: tuple[int, int, int], seed: int) -> None:
    counts = Counter(splits(sentences(rows), seed).values())
    assert sum(counts.values()) == rows
    assert (counts["train"], counts["validation"], counts["held_out"]) >= least
    assert counts["validation"] >= least[1] and counts["held_out"] >= least[2]


@pytest.mark.parametrize("seed", range(8))
def test_training_is_never_empty_and_a_large_group_stays_in_it(seed: int) -> None:
    same = ["the very same question"] * 40
    assert set(split(same, near_groups(same), seed=seed)) == {"train"}
    texts = same + sentences(20)
    names = split(texts, near_groups(texts), seed=seed)
    assert set(names[:40]) == {"train"}
    assert "held_out" in names


def test_a_share_of_nothing_takes_nothing() -> None:
    texts = sentences(50)
    assert set(split(texts, near_groups(texts), validation_share=0, held_out_share=0)) == {"train"}
    assert set(split(texts, near_groups(texts), validation_share=0, held_out_share=0.2)) == {
        "train",
        "held_out",
    }


@pytest.mark.parametrize(("validation", "held_out"), [(-0.1, 0.1), (0.3, 0.3), (0.1, float("nan"))])
def test_impossible_shares(validation: float, held_out: float) -> None:
    with pytest.raises(DataError) as caught:
        split(["a"], [0], validation_share=validation, held_out_share=held_out)
    assert caught.value.code == "bad_share"

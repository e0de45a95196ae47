"""How the next token is chosen: shares as promised, the greedy limit, and the same draw everywhere."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from journeyman.errors import RequestError
from journeyman.generate.sampling import Adjustment, Sampling, choose, make_generator, own_repetition_penalty

QUARTERS = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))


def draws(logits_BV: torch.Tensor, count: int, **wishes: float) -> Counter[int]:
    sampling = Sampling(**{"temperature": 1.0, "seed": 0, **wishes})
    generator = make_generator(sampling)
    return Counter(choose(logits_BV, [sampling], [generator])[0] for _ in range(count))


def test_tokens_are_drawn_by_their_shares():
    found = draws(QUARTERS, 4000)
    for token, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert abs(found[token] / 4000 - share) < 4 * math.sqrt(share * (1 - share) / 4000)


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    for top_p, kept in ((0.0, 1), (1e-12, 1), (0.4, 1), (0.6, 2), (0.8, 2), (0.9, 3), (1.0, 4)):
        assert set(draws(QUARTERS, 400, top_p=top_p)) == set(range(kept)), top_p


def test_temperature_flattens():
    logits = torch.tensor([[2.0, 0.0]])
    cold, hot = draws(logits, 500, temperature=0.5)[1], draws(logits, 500, temperature=5.0)[1]
    assert cold < 30 < 150 < hot < 300


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-300, 1e-45, 1e-8, 1e-4])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_the_coldest_temperatures_are_the_greedy_limit(temperature, scale):
    logits = torch.tensor([[1.0, 3.0, -2.0, 2.9]]) * scale
    assert draws(logits, 20, temperature=temperature) == {1: 20}


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.floats(0, 2),
    st.floats(0, 1),
    st.integers(-(2**63), 2**63 - 1),
)
def test_whatever_is_asked_a_token_of_some_probability_is_taken(logits, temperature, top_p, seed):
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    (token,) = choose(torch.tensor([logits]), [sampling], [make_generator(sampling)])
    gap = max(logits) - logits[token]
    assert gap == 0 or (not sampling.greedy and gap / temperature < 750)  # exp(-750) is 0


def test_tokens_that_can_not_be_are_never_taken():
    """Masked logits stand at both ends, where a draw of nearly 0 or 1 falls."""
    inf = float("inf")
    assert set(draws(torch.tensor([[-inf, 1.0, 1.0, -inf, -inf]]), 300)) == {1, 2}


def test_a_seed_draws_the_same_whatever_the_batch_and_its_rounding():
    torch.manual_seed(3)
    logits = torch.randn(6, 500) * 4
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=11)
    others = [Sampling(temperature=1.3, seed=n) for n in range(5)]

    def run(order: list[int], noise: float) -> list[int]:
        samplings = [sampling, *others]
        generators = {i: make_generator(samplings[i]) for i in order}
        taken = []
        for _ in range(40):
            rows = (logits + noise * torch.rand_like(logits))[order]
            chosen = choose(rows, [samplings[i] for i in order], [generators[i] for i in order])
            taken.append(chosen[order.index(0)])
        return taken

    alone = run([0], 0.0)
    assert len(set(alone)) > 5
    assert run([3, 0, 5], 0.0) == run([0, 1, 2, 3, 4, 5], 1e-6) == alone


def test_what_can_not_be_sampled_is_refused_at_once_and_named():
    with pytest.raises(RequestError) as caught:
        Sampling(max_tokens=0, temperature=float("nan"), top_p=1.5, seed=2**63)
    assert [p.split(" is ")[0] for p in caught.value.problems] == [
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
    ]
    with pytest.raises(RequestError, match="temperature is -1"):
        Sampling(temperature=-1)


def adjust(logits_V, sampling, prompt_ids, written_ids, own_penalty=1.0):
    """The logits after an answer was written token by token."""
    adjustment = Adjustment(sampling, prompt_ids, own_penalty)
    for token_id in written_ids:
        adjustment.take(token_id)
    changed_V = logits_V.clone()
    adjustment.apply(changed_V)
    return changed_V


def test_penalties_are_what_their_definitions_say():
    logits_V = torch.tensor([2.0, -2.0, 1.0, 1.0, 0.5])
    asked = {"frequency_penalty": 0.5, "presence_penalty": 0.25}
    found = adjust(logits_V, Sampling(**asked), prompt_ids=[2], written_ids=[0, 0, 1])
    assert found.tolist() == [2.0 - 2 * 0.5 - 0.25, -2.0 - 0.5 - 0.25, 1.0, 1.0, 0.5]
    found = adjust(logits_V, Sampling(repetition_penalty=2.0), prompt_ids=[1], written_ids=[0])
    assert found.tolist() == [1.0, -4.0, 1.0, 1.0, 0.5]
    found = adjust(logits_V, Sampling(logit_bias={3: 100, 0: -100, 99: 5}), prompt_ids=[], written_ids=[])
    assert found.tolist() == [-98.0, -2.0, 1.0, 101.0, 0.5]
    assert not Adjustment(Sampling(), [1]).changes
    assert torch.equal(adjust(logits_V, Sampling(), [1], [2]), logits_V)
    with pytest.raises(RequestError) as raised:
        Sampling(frequency_penalty=3, repetition_penalty=0, logit_bias={1: 101})
    assert len(raised.value.problems) == 3


@given(st.lists(st.integers(0, 31), min_size=1, max_size=20), st.floats(0.5, 2.0), st.integers(0, 9))
def test_the_repetition_penalty_is_transformers_own(ids, penalty, seed):
    logits_V = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), logits_V.clone()[None])[0]
    half = len(ids) // 2
    ours = adjust(logits_V, Sampling(), ids[:half], ids[half:], own_penalty=penalty)
    assert torch.equal(ours, theirs)


@given(
    st.lists(st.integers(0, 199), max_size=150), st.lists(st.integers(0, 199), max_size=150),
    st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 2.0), st.dictionaries(st.integers(-1, 250), st.floats(-100, 100), max_size=5),
)  # fmt: skip
def test_what_is_kept_up_token_by_token_is_what_the_whole_answer_says(prompt, written, frequency, presence, repetition, bias):
    """Each penalty by its definition, from the whole prompt and answer."""
    logits_V = torch.randn(200, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(frequency_penalty=frequency, presence_penalty=presence, repetition_penalty=repetition, logit_bias=bias)
    expected = logits_V.tolist()
    for token in range(200):
        if token in {*prompt, *written}:
            expected[token] = expected[token] / repetition if expected[token] > 0 else expected[token] * repetition
        expected[token] -= frequency * written.count(token) + presence * (token in written)
        expected[token] += bias.get(token, 0.0)
    assert torch.allclose(adjust(logits_V, sampling, prompt, written), torch.tensor(expected), atol=1e-4)


def test_a_models_own_repetition_penalty_is_found(tmp_path):
    assert own_repetition_penalty(tmp_path, default=1.1) == 1.1
    (tmp_path / "generation_config.json").write_text('{"repetition_penalty": 1.3}')
    assert own_repetition_penalty(tmp_path, default=1.1) == 1.3

"""Answering: batches, adapters, stops, seeds and limits change what they should and nothing else."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Phi3Config, Phi3ForCausalLM

import tiny
from journeyman.errors import CheckpointError, ModelNotFound, RequestError
from journeyman.generate.engine import MAX_ROWS, Engine, Request
from journeyman.generate.sampling import Sampling
from journeyman.records import Message

PROMPTS = [tuple(row.ids_T.tolist()) for row in tiny.rows(9, seed=3, shortest=2, longest=30)]
GREEDY = Sampling(max_tokens=16)


@pytest.fixture(scope="module")
def engine(bases, tmp_path_factory) -> Engine:
    engine = Engine(bases("llama"))
    for seed, name in enumerate(("one", "two")):
        engine.add_adapter(name, tiny.write_adapter(bases("llama"), tmp_path_factory.mktemp(name), seed))
    return engine


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral", "gpt2", "gpt_neox", "gemma2"])
def test_a_batch_answers_as_one_at_a_time_does(bases, family):
    """Prompts of 2 to 30 tokens together (left padding, windows of 8 and 12 tokens overrun), greedy, fp32."""
    engine = Engine(bases(family))
    together = engine.answers([Request(p, None, GREEDY) for p in PROMPTS])
    alone = [engine.answers([Request(p, None, GREEDY)])[0] for p in PROMPTS]
    assert [(a.text, a.stop, a.usage) for a in together] == [(a.text, a.stop, a.usage) for a in alone]
    assert len({a.text for a in alone}) > 3, "answers that are all alike show nothing"


def test_adapters_and_the_base_answer_in_one_call(engine):
    names = [None, "one", "two"]
    requests = [Request(p, names[i % 3], GREEDY) for i, p in enumerate(PROMPTS)]
    mixed = [a.text for a in engine.answers(requests)]
    assert mixed == [engine.answers([r])[0].text for r in requests]
    by_name = {n: engine.answers([Request(PROMPTS[0], n, GREEDY)])[0].text for n in names}
    assert len(set(by_name.values())) == 3


def test_more_requests_than_a_batch_holds(engine):
    requests = [Request(PROMPTS[i % len(PROMPTS)], None, Sampling(max_tokens=3)) for i in range(MAX_ROWS + 5)]
    answers = engine.answers(requests)
    assert len(answers) == MAX_ROWS + 5
    assert answers[0].text == answers[len(PROMPTS)].text


def test_streamed_pieces_are_the_answer(engine):
    requests = [Request(p, None, GREEDY) for p in PROMPTS]
    texts, stops = [""] * len(requests), [None] * len(requests)
    for piece in engine.stream(requests):
        assert stops[piece.index] is None, "a piece after the last"
        texts[piece.index] += piece.text
        stops[piece.index] = piece.stop
    answers = engine.answers(requests)
    assert texts == [a.text for a in answers]
    assert stops == [a.stop for a in answers]


def test_a_seed_repeats_an_answer_whatever_its_neighbours_are(engine):
    def ask(seed, *others):
        wish = Sampling(max_tokens=16, temperature=1.5, seed=seed)
        return engine.answers([Request(PROMPTS[0], None, wish), *others])[0].text

    alone = ask(7)
    assert ask(7) == alone
    assert ask(7, *(Request(p, None, Sampling(16, temperature=2.0)) for p in PROMPTS[1:4])) == alone
    assert len({ask(seed) for seed in range(6)}) > 3


def test_max_tokens_and_the_context_end_an_answer(engine):
    for limit in (1, 2, 5):
        answer = engine.answers([Request(PROMPTS[1], None, Sampling(max_tokens=limit))])[0]
        assert answer.usage.completion_tokens <= limit
        assert answer.usage.prompt_tokens == len(PROMPTS[1])
        assert (answer.stop == "length") == (answer.usage.completion_tokens == limit)
    room = engine.context_tokens - 3
    answer = engine.answers([Request(tuple(range(20, 20 + room)), None, Sampling(max_tokens=50))])[0]
    assert answer.usage.total_tokens <= engine.context_tokens


def test_long_rope_answers_in_company_as_transformers_alone_within_its_original_length(tmp_path):
    """Beyond it every position of a pass would be turned otherwise, those of short rows too."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    config = Phi3Config(**tiny._SIZES, original_max_position_embeddings=64, rope_parameters=rope)
    torch.manual_seed(1)
    theirs = Phi3ForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path, tiny.CHATML)
    engine = Engine(tmp_path)
    rows = [tuple(row.ids_T.tolist()) for row in tiny.rows(6, seed=4, shortest=5, longest=60)]
    rows += [tuple(row.ids_T.tolist()) for row in tiny.rows(2, seed=4, shortest=100, longest=100)]
    readable = [ids for ids in rows if len(ids) < engine.context_tokens]
    assert len(readable) >= 6
    answers = engine.answers([Request(ids, None, GREEDY) for ids in readable])
    for ids, answer in zip(readable, answers, strict=True):
        room = min(GREEDY.max_tokens, engine.context_tokens - len(ids))
        asked = {"max_new_tokens": room, "do_sample": False, "eos_token_id": list(engine.chat.stop_ids)}
        written = theirs.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), **asked)
        assert answer.text == engine.chat.text(written[0, len(ids) :].tolist())


def test_a_prompt_that_fills_the_context_is_refused_before_anything_is_answered(engine):
    too_long = Request(tuple([20] * engine.context_tokens), None, GREEDY)
    with pytest.raises(RequestError) as caught:
        next(iter(engine.stream([Request(PROMPTS[0], None, GREEDY), too_long])))
    assert caught.value.code == "context_length_exceeded"
    assert (str(engine.context_tokens) in caught.value.message) and caught.value.where == "messages"


def test_an_unknown_adapter_is_named(engine):
    with pytest.raises(ModelNotFound, match="ft:nobody"):
        engine.answers([Request(PROMPTS[0], "ft:nobody", GREEDY)])


def test_an_adapter_of_another_base_is_refused_and_leaves_the_engine_as_it_was(bases, tmp_path):
    other = tiny.write_adapter(bases("qwen2"), tmp_path / "other", 0)
    engine = Engine(bases("phi3"))
    before = engine.answers([Request(PROMPTS[0], None, GREEDY)])[0].text
    with pytest.raises(CheckpointError, match="does not fit this base") as caught:
        engine.add_adapter("other", other)
    assert caught.value.problems
    assert engine.answers([Request(PROMPTS[0], None, GREEDY)])[0].text == before


def test_an_adapter_scaled_in_a_way_we_do_not_compute_is_refused(bases, tmp_path):
    """PEFT knows variants (rank-stabilised scaling, DoRA); loading one as plain LoRA would answer wrongly."""
    import json

    folder = tiny.write_adapter(bases("llama"), tmp_path / "adapter", 0)
    config = json.loads((folder / "adapter_config.json").read_text())
    for change in ({"use_rslora": True}, {"use_dora": True}, {"peft_type": "IA3"}, {"alpha_pattern": {"q_proj": 8}}):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError):
            Engine(bases("llama")).add_adapter("x", folder)


@pytest.mark.parametrize(
    "variant", [{}, {"init_lora_weights": "orthogonal"}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}, {"alora_invocation_tokens": [99, 15]}]
)  # fmt: skip
def test_an_adapter_answers_as_in_peft_or_is_refused(bases, tmp_path, variant):
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **variant)
    trained = get_peft_model(AutoModelForCausalLM.from_pretrained(bases("llama")), config)
    for name, parameter in trained.named_parameters():
        if "lora_" in name:
            parameter.data += 0.05 * torch.randn_like(parameter)
    trained.save_pretrained(tmp_path)
    ids = torch.tensor([[12, 40, 7, 300, 99, 15, 201, 64, 31, 280]])
    engine = Engine(bases("llama"))
    try:
        engine.add_adapter("x", tmp_path)
    except CheckpointError as error:
        assert variant and "not plain LoRA" in str(error)
        return
    engine.activate("x")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases("llama")), tmp_path).eval()
    with torch.no_grad():
        assert (engine.model(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max() < 1e-4


def test_an_adapter_that_is_not_finite_is_refused(bases, tmp_path):
    folder = tiny.write_adapter(bases("llama"), tmp_path / "adapter", 0)
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        Engine(bases("llama")).add_adapter("x", folder)


def test_an_adapter_whose_sums_overflow_spoils_no_other_answer(bases, tmp_path):
    """Its rows leave infinite values in blocks that later rows take over, and in block 0."""
    folder = tiny.write_adapter(bases("llama"), tmp_path / "adapter", 0)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors = {name: tensor.sign() * 3e38 if "v_proj.lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    engine = Engine(bases("llama"))
    engine.add_adapter("x", folder)
    never_ends = Sampling(max_tokens=40, logit_bias={2: -100, 4: -100})
    others = [Request(tuple(row.ids_T.tolist()), None, never_ends) for row in tiny.rows(8, seed=2, longest=90)]
    alone = [Engine(bases("llama")).answers([other])[0].text for other in others]
    for _ in range(3):
        with pytest.raises(CheckpointError, match="not finite"):
            engine.answers([replace(other, adapter="x") for other in others])
    assert [a.text for a in engine.answers(others)] == alone


def test_messages_are_rendered_by_the_models_template(engine):
    messages = [Message("user", "Where is it?")]
    prompt = tuple(engine.chat.prompt_ids(messages))
    answer = engine.answer(messages, sampling=GREEDY)
    assert answer.text == engine.answers([Request(prompt, None, GREEDY)])[0].text
    assert answer.usage.prompt_tokens == len(prompt)


def test_who_reads_a_stream_is_left_in_their_own_torch_mode(engine):
    """A reader may train between two pieces, or take each piece in another thread, as servers do."""
    pieces = engine.stream([Request(PROMPTS[0], "one", GREEDY)])
    text = next(pieces).text
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    found: list[str] = []
    for _ in range(40):
        thread = threading.Thread(target=lambda: found.extend(p.text for p in [next(pieces, None)] if p))
        thread.start()
        thread.join()
    assert text + "".join(found) == engine.answers([Request(PROMPTS[0], "one", GREEDY)])[0].text


def test_a_stream_that_nobody_reads_on_frees_the_engine(engine):
    pieces = engine.stream([Request(PROMPTS[0], None, GREEDY)])
    next(pieces)
    pieces.close()
    done = threading.Event()
    threading.Thread(target=lambda: (engine.answers([Request(PROMPTS[1], None, GREEDY)]), done.set())).start()
    assert done.wait(20)


def test_callers_from_several_threads_get_their_own_answers(engine):
    wanted = {p: engine.answers([Request(p, "one", GREEDY)])[0].text for p in PROMPTS}
    got: dict = {}
    threads = [
        threading.Thread(target=lambda p=p: got.setdefault(p, engine.answers([Request(p, "one", GREEDY)])[0].text))
        for p in PROMPTS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == wanted

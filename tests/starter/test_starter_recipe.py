"""The recipe keeps its promises: repeatable, resumable, nothing of the benchmarks, nothing lost in packing."""

import json
from collections import defaultdict
from itertools import islice
from random import Random

import numpy as np
import pytest
import torch


def tiny():
    from starter.shape import Shape

    return Shape(width=32, layers=2, heads=2, kv_heads=1, hidden=64, vocabulary=64, context=32)


def write_stream(folder, tokens=4096):
    from starter.render import TRAINED

    folder.mkdir()
    ids = np.random.default_rng(0).integers(16, 64, tokens).astype(np.uint16)
    np.save(folder / "part-000.npy", ids[:1000] | TRAINED)
    np.save(folder / "part-001.npy", ids[1000:] | TRAINED)
    return ids


def test_a_stopped_and_resumed_run_equals_one_that_was_not(tmp_path, monkeypatch):
    from starter.loop import Settings, train

    from starter import checkpoint

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    write_stream(tmp_path / "data")

    def run(name, steps):
        settings = Settings(str(tmp_path / "data"), steps, rows=4, length=16, micro_rows=2, muon_rate=0.02, adam_rate=0.004, seed=3, save_minutes=9)
        train(tmp_path / name, tiny(), settings, lambda step: min(1.0, (step + 1) / 3))
        return checkpoint.weights(tmp_path / name / "checkpoint")

    whole = run("whole", 6)
    run("parts", 2)
    parts = run("parts", 6)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_batches_cover_the_stream_once(tmp_path):
    from starter.loop import Batches

    ids = write_stream(tmp_path / "data")
    batches = Batches(tmp_path / "data", rows=4, length=64)
    seen = torch.cat([batches(step)[0].flatten() for step in range(16)])
    assert sorted(seen.tolist()) == sorted(ids.tolist())
    x, y = batches(5)
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_an_untrained_token_is_no_target(tmp_path):
    from starter.loop import Batches
    from starter.render import TRAINED

    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "part-000.npy", np.array([1, 4, 20, 2, 5, 30 | TRAINED, 2 | TRAINED, 0, 0], np.uint16))
    ids, targets = Batches(tmp_path / "data", rows=1, length=8)(0)
    assert ids.tolist() == [[1, 4, 20, 2, 5, 30, 2, 0]]
    assert targets.tolist() == [[-1, -1, -1, -1, 30, 2, -1, -1]]


def test_rows_are_filled_with_whole_documents():
    from starter.prepare import fill_rows

    rng = np.random.default_rng(1)
    documents = [np.full(rng.integers(1, 40), n + 1, np.uint16) for n in range(200)]
    rows = fill_rows(documents, 64)
    assert all(len(row) == 64 for row in rows)
    joined = np.concatenate(rows)
    assert [int((joined == n + 1).sum()) for n in range(200)] == [len(d) for d in documents]
    assert all(len(np.unique(np.nonzero(np.stack(rows) == n + 1)[0])) == 1 for n in range(200))


def test_orthogonalised_matrices_have_singular_values_near_one():
    from starter.optimizer import orthogonalise

    for size in ((3, 16, 48), (2, 48, 16), (1, 32, 32)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(size, generator=torch.Generator().manual_seed(0))))
        assert values.min() > 0.4
        assert values.max() < 1.3


def test_practice_is_repeatable_and_answers_itself():
    from starter.practice import SHARES, practice

    rows = practice(3000, 5, [])
    assert rows == practice(3000, 5, [])
    assert {row.source.removeprefix("practice-") for row in rows} == set(SHARES)
    for row in rows:
        assert row.messages[-1]["role"] == "assistant"
        assert all(m["content"] and "{" not in m["content"].replace('{"', "") for m in row.messages if m["role"] != "assistant"), row
        if row.source == "practice-records":
            json.loads(row.messages[-1]["content"])


def test_practice_keeps_out_of_the_bundled_tasks_domains():
    from starter.practice import practice

    text = " ".join(row.content.lower() for row in practice(20000, 6, []))
    for word in ("refund", "parcel", "ferry", "sofa", "cabin", "delivery", "return label", "warranty", "catalog"):
        assert word not in text, word


def test_decontamination_finds_runs_and_whole_questions():
    from starter.corpus import Row
    from starter.decontaminate import BenchText

    run = "one two three four five six seven eight nine ten eleven twelve thirteen"
    bench = BenchText(iter([run, "where is my new blue card"]))
    assert bench.shares_text_with(Row("a", "guides", text=f"Before. {run.upper()}, after."))
    assert bench.shares_text_with(Row("a", "questions", messages=({"role": "user", "content": "Where is my new, blue card?"},)))
    assert not bench.shares_text_with(Row("a", "guides", text="Say: where is my new blue card, please, and nothing more than that here."))
    assert bench.refused["a"] == 2


def test_no_benchmark_text_is_chosen(corpus, bench_text):
    """Reads the head of every shard; `starter.prepare` asks the same of every row it chooses."""
    from starter.corpus import rows, shards
    from starter.decontaminate import runs
    from starter.prepare import chosen

    times = defaultdict(lambda: 1.0)
    kept = [row for shard in shards(corpus) for row in chosen(islice(rows(shard), 300), times, 1, bench_text)]
    assert len(kept) > 2500
    assert not any(run in bench_text.runs for row in kept for run in runs(row.content))
    assert not {row.source for row in kept} & {"standardebooks-us-pd", "classic-books-us-pd", "squality-stories"}


def test_practice_and_questions_hold_no_benchmark_text(bench_text):
    from starter.corpus import Row
    from starter.evaluate import QUESTIONS
    from starter.practice import practice

    assert not [row for row in practice(20000, 7, []) if bench_text.shares_text_with(row)]
    for file in QUESTIONS.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            assert not bench_text.shares_text_with(Row("q", "questions", messages=tuple(json.loads(line)["messages"])))


def test_the_manifests_name_source_licence_and_share():
    from starter.evaluate import QUESTIONS

    found = sorted((QUESTIONS.parent / "results").glob("manifest-*.json"))
    if not found:
        pytest.skip("starter/results has no manifest yet; starter.prepare writes them")
    for file in found:
        manifest = json.loads(file.read_text())
        assert sum(s["share"] for s in manifest["sources"]) == pytest.approx(1, abs=0.001)
        assert all(s["licence"] and s["tokens"] for s in manifest["sources"])
        assert not [s for s in manifest["sources"] if "us-pd" in s["source"] or "squality" in s["source"]]


def test_random_draws_do_not_depend_on_the_process():
    from starter.corpus import Row

    assert Row("a", "guides", text="b").draw(1) == Row("a", "guides", text="b").draw(1) != Row("a", "guides", text="b").draw(2)
    assert Random(1).random() == Random(1).random()

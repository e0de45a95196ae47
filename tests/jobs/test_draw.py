"""What a training would be refused for is known to `check` and `plan`: the same code, the same rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from job_rows import write_rows

from journeyman.errors import JourneymanError
from journeyman.files import write_jsonl
from journeyman.jobs.draw import draw_plan
from journeyman.models import bases as base_models
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace
from tiny import MACHINE, TEMPLATES


def write_task(folder: Path, *, rows: int = 45, top: str = "", train: str = "") -> Path:
    folder.mkdir()
    write_rows(folder / "examples.jsonl", rows)
    (folder / "task.toml").write_text(f"{top}\n[train]\n{train}\n", encoding="utf-8")
    return folder


def refused_by_train(workspace: Workspace, request: TrainRequest) -> str:
    with pytest.raises(JourneymanError) as caught:
        workspace.train(request)
    return caught.value.code


@pytest.mark.parametrize(
    ("code", "of_task"),
    [
        ("invalid_n_examples", {"rows": 9}),
        ("nothing_learned", {"train": "max_tokens = 9"}),
        ("plan", {"train": "rank = 5000"}),
        ("plan", {"train": "max_tokens = -5"}),
        ("plan", {"train": 'suffix = "two words"'}),
        ("base_not_found", {"top": 'base = "no-such-base"'}),
    ],
)
def test_what_train_refuses_is_an_error_of_check_with_the_same_code(tmp_path, bases, code, of_task):
    task = write_task(tmp_path / "task", **of_task)
    request = TrainRequest(str(task), base=None if "top" in of_task else str(bases("llama")))
    workspace = Workspace(tmp_path / "home")
    _, report = workspace.check(request)
    assert [f.code for f in report.findings if f.severity == "error"] == [code]
    assert refused_by_train(workspace, request) == code
    with pytest.raises(JourneymanError) as caught:
        workspace.plan(request)
    assert caught.value.code == code


def test_rows_that_the_template_refuses_are_an_error_of_check(tmp_path, bases):
    rows = [
        {"messages": [{"role": r, "content": f"{r} {i}"} for r in ("system", "user", "assistant")]} for i in range(12)
    ]
    write_jsonl(tmp_path / "x.jsonl", rows)
    request = TrainRequest(str(tmp_path / "x.jsonl"), base=str(bases("llama", TEMPLATES["gemma"])))
    _, report = Workspace(tmp_path / "home").check(request)
    (error,) = (f for f in report.findings if f.severity == "error")
    assert error.code == "nothing_learned"
    assert "System role not supported" in error.message
    assert refused_by_train(Workspace(tmp_path / "home"), request) == "nothing_learned"


@pytest.mark.parametrize("rows", [10, 12])
def test_ten_rows_of_the_file_are_enough_for_check_plan_and_train(tmp_path, bases, rows):
    task = write_task(tmp_path / "task", rows=rows, train="epochs = 1")
    request = TrainRequest(str(task), base=str(bases("llama")))
    workspace = Workspace(tmp_path / "home")
    _, report = workspace.check(request)
    assert report.verdict != "errors"
    _, version = workspace.train(request)
    assert version is not None


def test_a_hub_base_is_not_fetched_for_a_check(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    task = write_task(tmp_path / "task", top='base = "nobody/nothing-here"')
    _, report = Workspace(tmp_path / "home").check(TrainRequest(str(task)))
    assert ("base_not_fetched", "info") in [(f.code, f.severity) for f in report.findings]


def test_the_tasks_seed_splits_as_in_a_training_and_a_flag_overrides_it(tmp_path, bases):
    def held_out(train: str, seed: int | None = None) -> list[int]:
        task = write_task(tmp_path / f"task-{train}-{seed}".replace(" ", ""), train=train)
        request = TrainRequest(str(task), base=str(bases("llama")), wishes=Wishes(seed=seed, epochs=1))
        checked, _ = workspace.check(request)
        job, _ = workspace.train(request)
        trained = json.loads((job.folder / "dataset" / "manifest.json").read_text())
        assert (trained["seed"], trained["hash"]) == (checked.manifest["seed"], checked.hash)
        assert json.loads((job.folder / "plan.json").read_text())["choices"]["seed"]["value"] == trained["seed"]
        return [example.place.line for example in checked.held_out]

    workspace = Workspace(tmp_path / "home")
    seven, none = held_out("seed = 7"), held_out("")
    assert seven == held_out("", 7) == held_out("seed = 3", 7)
    assert none == held_out("seed = 5", 0) != seven


def test_who_asks_for_adapters_gets_them_where_the_task_trains_all_weights(tmp_path, bases):
    task = write_task(tmp_path / "task", train="full = true\nlearning_rate = 1e-4\nepochs = 2")

    def method(**wishes):
        plan = Workspace(tmp_path / "home").plan(TrainRequest(str(task), base=str(bases("llama")), wishes=Wishes(**wishes)))
        return plan.method.value, plan.epochs.value, plan.learning_rate.value == 1e-4

    assert method() == ("full", 2, True)
    assert method(rank=4) == method(top_layers=1) == ("lora", 2, False)
    assert method(rank=4, full=True) == ("full", 2, True)


def test_a_plan_is_drawn_without_torch(tmp_path, bases):
    write_rows(tmp_path / "x.jsonl")
    code = (
        "import sys; from pathlib import Path; from journeyman.workspace import TrainRequest, Workspace;"
        f"w = Workspace(Path({str(tmp_path)!r}) / 'home'); r = TrainRequest({str(tmp_path / 'x.jsonl')!r}, base={str(bases('llama'))!r});"
        "w.plan(r); w.check(r); print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "transformers"} & set(loaded)


def test_wishes_are_refused_before_any_row_is_encoded(tmp_path, bases):
    write_rows(tmp_path / "x.jsonl")
    workspace = Workspace(tmp_path / "home")
    dataset, _ = workspace.check(TrainRequest(str(tmp_path / "x.jsonl")))
    wishes = Wishes(epochs=0, max_tokens=10**9, rank=-1)
    with pytest.raises(JourneymanError) as caught:
        draw_plan(base_models.resolve(str(bases("llama"))), dataset, MACHINE, wishes)
    assert len(caught.value.problems) == 3


def test_values_for_the_tasks_own_base_say_nothing_about_another(tmp_path, bases):
    """A rate and a rank chosen for one model would be wrong for the next; the number of passes is the rows' own."""
    own, other = str(bases("llama")), str(bases("qwen2"))
    task = write_task(tmp_path / "task", top=f'base = "{own}"', train="full = true\nlearning_rate = 1e-9\nepochs = 2")
    workspace = Workspace(tmp_path / "home")
    kept, anew = (workspace.plan(TrainRequest(str(task), base=base)) for base in (None, other))
    assert (kept.method.value, kept.learning_rate.value, kept.epochs.value) == ("full", 1e-9, 2)
    assert (anew.method.value, anew.epochs.value) == ("lora", 2)
    assert anew.learning_rate.source != "user"

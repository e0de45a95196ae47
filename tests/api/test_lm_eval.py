"""lm-evaluation-harness itself as a client: its local-completions model asks the server for a base and a tuned model.

Runs where `lm_eval` can be called, best from an environment of its own (docs/evaluate.md says how).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from journeyman.records import Place
from journeyman.text.encode import Encoded
from journeyman.workspace import Workspace

from .conftest import Running, add_version, running

LM_EVAL = shutil.which("lm_eval")

pytestmark = pytest.mark.skipif(
    LM_EVAL is None, reason='lm_eval is not on the PATH to ask: pip install "lm_eval[api]==0.4.13" transformers'
)

TUNED = "ft:tiny:local::Harness0"
ROWS = [
    {"question": "The parcel left our house on", "choices": ["Monday", "Thursday and Friday", "blue"], "answer": 0},
    {"question": "Could you send the", "choices": ["order number, please?", "of", "will look"], "answer": 0},
    {"question": "Schöne Grüße aus der", "choices": ["Werkstatt", "你好", "\N{GRINNING FACE}"], "answer": 0},
]
CHOICE = """
task: house_choice
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
GO_ON = """
task: house_go_on
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6}
metric_list: [{metric: exact_match}]
"""


def harness(server: Running, model: str, folder: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """What lm_eval makes of a model: its results, and its samples by task."""
    folder.mkdir()
    data = folder / "house.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, task in (("choice", CHOICE), ("go_on", GO_ON)):
        (folder / f"{name}.yaml").write_text(task % data)
    arguments = f"model={model},base_url={server.url}/v1/completions,tokenizer={server.base},max_length=64"
    words = [LM_EVAL, "--model", "local-completions", "--model_args", arguments, "--include_path", folder, "--batch_size", "2",
             "--tasks", "house_choice,house_go_on", "--output_path", folder / "out", "--log_samples"]  # fmt: skip
    offline = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(words, env={**os.environ, **offline}, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (folder / "out").rglob("results_*.json")
    samples = {
        path.name.split("_2")[0].removeprefix("samples_"): [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "out").rglob("samples_*.jsonl")
    }
    return json.loads(results.read_text())["results"], samples


def ours(workspace: Workspace, model: str, context: str, continuation: str) -> tuple[float, bool]:
    """The log-probability of a continuation, and whether each of its tokens is the likeliest."""
    served = workspace.served(model)
    given, whole = served.engine.chat.ids(context), served.engine.chat.ids(context + continuation)
    weights_T = np.array([0.0] * len(given) + [1.0] * (len(whole) - len(given)), dtype=np.float32)
    row = Encoded(np.array(whole, dtype=np.int32), weights_T, Place("house", 1))
    (found,) = served.engine.likelihoods([row], adapter=served.adapter)
    return found.log_probability, found.correct == found.tokens


def test_its_loglikelihoods_are_the_engines_for_a_base_and_for_a_tuned_model(tmp_path, base):
    with running(tmp_path / "home", base) as server:
        version = add_version(server.workspace, base, TUNED)
        weights = version.folder / "model.safetensors"
        noise = torch.Generator().manual_seed(0)
        changed = {k: v + 0.1 * torch.randn(v.shape, generator=noise) for k, v in safetensors.torch.load_file(weights).items()}
        safetensors.torch.save_file(changed, weights, {"format": "pt"})
        seen = []
        for name, source, folder in (("tiny", str(base), "base"), (TUNED, TUNED, "tuned")):
            results, samples = harness(server, name, tmp_path / folder)
            values = []
            for sample in samples["house_choice"]:
                for request, (found,) in zip(sample["arguments"].values(), sample["resps"], strict=True):
                    expected, greedy = ours(server.workspace, source, request["arg_0"], request["arg_1"])
                    values.append(float(found[0]))
                    assert values[-1] == pytest.approx(expected, abs=1e-4)
                    assert (str(found[1]) == "True") is greedy
            assert len(values) == sum(len(row["choices"]) for row in ROWS)
            assert 0 <= results["house_choice"]["acc,none"] <= 1 and results["house_choice"]["acc_stderr,none"] >= 0
            written = [sample["resps"][0][0] for sample in samples["house_go_on"]]
            assert len(written) == len(ROWS) and all("\n" not in text for text in written)
            seen.append(values)
        assert seen[0] != pytest.approx(seen[1], abs=0.01)

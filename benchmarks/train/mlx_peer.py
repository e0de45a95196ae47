"""mlx-lm's trainer with its processor back end.

A setting names the rows of a micro-batch (`micro_rows`). mlx-lm does not clip gradients, and averages the means of
micro-batches.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import contender
import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner import trainer
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model
from safetensors.numpy import save_file


def main() -> None:
    """Train as the setting says."""
    run = contender.run()
    workload = run.workload
    mx.set_default_device(mx.cpu)
    model, _ = load_model(run.base)
    if workload.method == "lora":
        model.freeze()
        linear_to_lora_layers(
            model,
            len(model.layers),
            {"rank": workload.rank, "scale": workload.alpha / workload.rank, "dropout": 0.0},
        )
    else:
        model.unfreeze()
    micro_rows = run.setting["micro_rows"]
    accumulated = workload.batch_rows // micro_rows
    steps = len(run.rows) // workload.batch_rows * workload.epochs
    warmup = max(1, round(0.05 * steps))
    schedule = optim.join_schedules(
        [
            optim.linear_schedule(workload.learning_rate / warmup, workload.learning_rate, warmup),
            optim.linear_schedule(workload.learning_rate, 0.0, max(1, steps - warmup)),
        ],
        [warmup],
    )
    rows = [(row["ids"], row["weights"].index(1)) for row in run.rows]
    adapter = run.out / "adapters.safetensors"
    trainer.train(
        model,
        optim.AdamW(schedule, weight_decay=0.0, bias_correction=True),
        rows,
        args=trainer.TrainingArgs(
            batch_size=micro_rows, grad_accumulation_steps=accumulated, iters=steps * accumulated,
            steps_per_report=10**6, steps_per_save=10**6, adapter_file=str(adapter),
        ),
        iterate_batches=partial(clocked, run, accumulated),
    )  # fmt: skip
    run.step(run.seen)
    trained = run.out / "trained"
    if workload.method == "lora":
        to_peft(adapter, trained, workload)
    else:
        shutil.copytree(run.base, trained, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file(
            {name: np.array(value) for name, value in tree_flatten(model.parameters())},
            trained / "model.safetensors",
            metadata={"format": "pt"},
        )
    run.finish(trained)


def clocked(run: contender.Run, accumulated: int, *args: Any, **kwargs: Any) -> Any:
    """mlx-lm's batches, with a mark of the clock whenever the first micro-batch of a step is asked for."""
    run.start()
    run.seen = 0
    for number, (batch, spans) in enumerate(trainer.iterate_batches(*args, **kwargs)):
        if number and number % accumulated == 0:
            run.step(run.seen)
            run.seen = 0
        run.seen += int(spans[:, 1].sum().item())
        yield batch, spans


def to_peft(adapter: Path, folder: Path, workload: Any) -> None:
    """mlx-lm keeps A and B transposed, beside the layers' own names."""
    folder.mkdir()
    tensors = {
        "base_model.model."
        + name.replace(".lora_a", ".lora_A.weight").replace(
            ".lora_b", ".lora_B.weight"
        ): np.ascontiguousarray(np.array(value).T)
        for name, value in mx.load(str(adapter)).items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": workload.rank, "lora_alpha": workload.alpha, "lora_dropout": 0.0,
        "bias": "none", "target_modules": sorted({name.split(".")[-3] for name in tensors}),
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


if __name__ == "__main__":
    main()

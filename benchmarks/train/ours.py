"""Journeyman: its own plan and its own loop, as `journeyman train` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import contender
import numpy as np

from journeyman.jobs.draw import Encodings
from journeyman.plan.machine import probe
from journeyman.plan.plan import Wishes, make_plan
from journeyman.plan.shape import ModelShape
from journeyman.records import Place
from journeyman.text.encode import Encoded
from journeyman.train.load import load_base
from journeyman.train.loop import prepare, train


def main() -> None:
    """Plan and train."""
    run = contender.run()
    workload = run.workload
    rows = [
        Encoded(
            np.array(row["ids"], np.int32), np.array(row["weights"], np.float32), Place("rows.jsonl", number)
        )
        for number, row in enumerate(run.rows, start=1)
    ]
    wishes = Wishes(
        epochs=workload.epochs, batch_size=workload.batch_rows, learning_rate=workload.learning_rate,
        rank=workload.rank if workload.method == "lora" else None, full=workload.method == "full",
    )  # fmt: skip

    encodings = Encodings(rows, [], [])
    plan = make_plan(
        base=str(run.base), base_hash="", dataset_hash="", facts=encodings.facts(), shape=ModelShape.read(run.base),
        machine=probe(run.out), wishes=wishes, step_tokens=encodings.step_tokens,
    )  # fmt: skip
    model = load_base(run.base, precision=plan.precision.value, device=plan.device.value)
    prepare(model, plan)

    def on_event(event: Mapping[str, Any]) -> None:
        if event["type"] == "step":
            run.step(event["tokens"])

    run.start()
    outcome = train(plan, model, rows, [], run.out, on_event=on_event)
    assert outcome.best is not None
    run.finish(
        outcome.best,
        computed_tokens=(plan.facts.computed_tokens or plan.facts.tokens) * workload.epochs,
        estimated_bytes=plan.memory_bytes,
        precision=plan.precision.value,
        micro_batch_tokens=plan.micro_batch_tokens.value,
    )


if __name__ == "__main__":
    main()

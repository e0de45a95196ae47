"""PEFT's mixed-adapter generate on the same requests: as many at once as there are clients, batch after batch.

Run by serve.py in the environment of transformers and peft; it needs nothing of Journeyman. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList


class FirstToken(LogitsProcessor):
    """Notes when the first token of a batch was there."""

    def __init__(self) -> None:
        self.at_s: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.at_s = self.at_s or time.perf_counter()
        return scores


def main() -> None:
    """Load, warm up, and answer all."""
    work: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    begun = time.perf_counter()
    model: Any = AutoModelForCausalLM.from_pretrained(work["base"], dtype=getattr(torch, sys.argv[2]))
    if work["adapters"]:
        from peft import PeftModel

        first, *others = work["adapters"].items()
        model = PeftModel.from_pretrained(model, first[1], adapter_name=first[0], autocast_adapter_dtype=False)
        for name, folder in others:
            model.load_adapter(folder, adapter_name=name, autocast_adapter_dtype=False)
    model.eval()
    ready_s = time.perf_counter() - begun
    clients, asks = work["scenario"]["clients"], work["asks"]
    firsts_s: list[float] = []
    tokens = 0
    answer(model, work, asks[:clients], 2)
    begun = time.perf_counter()
    for start in range(0, len(asks), clients):
        batch = asks[start : start + clients]
        batch_begun = time.perf_counter()
        first_s, written = answer(model, work, batch, work["scenario"]["answer_tokens"])
        firsts_s += [first_s - batch_begun] * len(batch)
        tokens += written
    print(json.dumps({"firsts_s": firsts_s, "tokens": tokens, "wall_s": time.perf_counter() - begun, "ready_s": ready_s}))


@torch.inference_mode()
def answer(model: Any, work: dict[str, Any], batch: list[dict[str, Any]], most: int) -> tuple[float, int]:
    """When the first token was there, and how many were written."""
    width = max(len(ask["ids"]) for ask in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, ask in enumerate(batch):
        ids[row, width - len(ask["ids"]) :] = torch.tensor(ask["ids"])
        mask[row, width - len(ask["ids"]) :] = 1
    names = {"adapter_names": [ask["adapter"] for ask in batch]} if work["adapters"] else {}
    first = FirstToken()
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=most,
        min_new_tokens=most,
        do_sample=False,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([first]),
        **names,
    )
    assert first.at_s is not None
    return first.at_s, int((out[:, width:] != 0).sum())


if __name__ == "__main__":
    main()

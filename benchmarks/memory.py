"""The plan's memory and time against what a training took, each in a process of its own.

    python benchmarks/memory.py

Shapes other than the starter's have random weights: memory and time do not depend on their values. One JSON line a
training is appended to results/memory.jsonl. Needs Linux (peak resident memory is read from the kernel).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SMOLLM2_135M = {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9,
                "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 2048}
QWEN25_05B = {"hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864, "num_attention_heads": 14,
              "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 2048}
SHAPES: dict[str, dict[str, Any] | None] = {"starter": None, "135M": SMOLLM2_135M, "0.5B": QWEN25_05B}
CASES = (
    ("starter", "support", 120, []), ("starter", "support", 120, ["--full"]), ("starter", "triage", 200, []),
    ("135M", "support", 48, []), ("135M", "catalog", 48, []), ("0.5B", "support", 16, []),
)


def base_folder(shape: str, home: Path) -> Path:
    """A folder with a model of the shape: the starter's own, or random weights with the starter's tokenizer."""
    from journeyman.models import bases

    starter = bases.resolve("starter").folder
    config = SHAPES[shape]
    if config is None:
        return Path(starter)
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = home / shape
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**config)).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(Path(starter) / name, folder / name)
    return folder


def measure(source: Path, base: Path, full: bool, home: Path) -> dict[str, Any]:
    """Train once, here; the plan's estimates beside this process's own peak and the seconds of its steps."""
    from journeyman.jobs.worker import read_events
    from journeyman.plan.plan import Wishes
    from journeyman.request import TrainRequest
    from journeyman.workspace import Workspace

    workspace = Workspace(home)
    request = TrainRequest(str(source), str(base), Wishes(epochs=1, full=full))
    started_s = time.perf_counter()
    job, version = workspace.train(request)
    took_s = time.perf_counter() - started_s
    assert version is not None
    estimate = version.plan["estimate"]
    steps = [e for e in read_events(job.folder) if e["type"] == "step"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "estimated_bytes": estimate["memory_bytes"], "peak_bytes": peak, "memory_ratio": round(estimate["memory_bytes"] / peak, 3),
        "estimated_s": round(estimate["time_s"], 1), "took_s": round(took_s, 1), "steps_s": round(sum(e["seconds"] for e in steps), 1),
        "tokens_per_s": round(sum(e["tokens"] for e in steps) / sum(e["seconds"] for e in steps)),
        "micro_batch_tokens": version.plan["choices"]["micro_batch_tokens"]["value"],
        "precision": version.plan["choices"]["precision"]["value"], "threads": version.plan["choices"]["threads"]["value"],
        "workers": version.plan["choices"]["workers"]["value"],
    }


def main() -> None:
    """Run the cases, or with --case one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int)
    parser.add_argument("--only", nargs="+", help="shapes to run")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "memory.jsonl")
    args = parser.parse_args()
    if args.case is None:
        for number, (shape, *_) in enumerate(CASES):
            if not args.only or shape in args.only:
                subprocess.run([sys.executable, __file__, "--case", str(number), "--out", str(args.out)], check=True, env=os.environ)
        return
    shape, task, rows, flags = CASES[args.case]
    from journeyman.task import bundled

    with tempfile.TemporaryDirectory(prefix="journeyman-memory-") as scratch:
        home = Path(scratch)
        if SHAPES[shape] is not None and not (home / shape).exists():
            # Made in another process, whose memory is not this one's peak.
            code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import memory; from pathlib import Path; memory.base_folder({shape!r}, Path({scratch!r}))"
            subprocess.run([sys.executable, "-c", code], check=True)
        base = home / shape if SHAPES[shape] is not None else base_folder(shape, home)
        source = home / "rows.jsonl"
        lines = (bundled(task) / "examples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        source.write_text("".join(lines[:rows]), encoding="utf-8")
        row = {"shape": shape, "task": task, "rows": rows, "method": "full" if flags else "lora", **measure(source, base, bool(flags), home / "home")}
    with args.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

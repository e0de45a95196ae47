"""LitGPT's finetune_lora, and finetune_full for full fine-tuning.

A setting names the rows of a micro-batch (`micro_rows`), the layers that get adapters (`layers`: "all", or LitGPT's
default of query and value), and the arithmetic (`precision`). Its bf16 keeps adapters in bf16 too. LitGPT does not clip gradients, averages the means of micro-batches, and decays along a
cosine; it trains the head apart from a tied embedding.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import contender
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data.base import DataModule, get_sft_collate_fn
from litgpt.finetune import full, lora
from litgpt.prompts import Default
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.scripts.convert_lit_checkpoint import convert_lit_checkpoint
from litgpt.utils import save_config
from safetensors.torch import load_file, save_file
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader


class Rows(DataModule):
    """The workload's rows, tokenized as they are, and the clock: it starts with the first batch that is asked for."""

    prompt_style = Default()

    def __init__(self, run: contender.Run) -> None:
        super().__init__()
        self.run = run
        self.rows = [
            {
                "input_ids": torch.tensor(row["ids"]),
                "labels": torch.tensor(
                    [i if w else -100 for i, w in zip(row["ids"], row["weights"], strict=True)]
                ),
                "token_counts": {"raw": len(row["ids"]), "raw_plus_prompt_template": len(row["ids"])},
            }
            for row in run.rows
        ]

    def connect(
        self, tokenizer: Any = None, batch_size: int = 1, max_seq_length: int | None = None, **_: Any
    ) -> None:
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        collate = get_sft_collate_fn()

        def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
            if not self.run.marks:
                self.run.start()
            self.run.seen += sum(row["token_counts"]["raw"] for row in rows)
            return collate(rows)

        return DataLoader(self.rows, batch_size=self.batch_size, shuffle=True, collate_fn=counted)

    def val_dataloader(self) -> DataLoader:
        shortest = min(self.rows, key=lambda row: len(row["input_ids"]))
        return DataLoader([shortest], collate_fn=get_sft_collate_fn())

    def stepped(self, *_: Any) -> None:
        self.run.step(self.run.seen)
        self.run.seen = 0


def converted(base: Path) -> Path:
    """The base in LitGPT's format, converted once and kept beside it."""
    folder = base.parent / "litgpt-base"
    if (folder / "lit_model.pth").is_file():
        return folder
    folder.mkdir(exist_ok=True)
    hf = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config = Config(
        name="base", block_size=hf["max_position_embeddings"], vocab_size=hf["vocab_size"],
        padded_vocab_size=hf["vocab_size"], n_layer=hf["num_hidden_layers"], n_head=hf["num_attention_heads"],
        n_embd=hf["hidden_size"], n_query_groups=hf["num_key_value_heads"], rotary_percentage=1.0,
        parallel_residual=False, bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
        intermediate_size=hf["intermediate_size"], rope_base=10000, norm_eps=hf["rms_norm_eps"],
    )  # fmt: skip
    weights: dict[str, Any] = {}
    copy_weights_hf_llama(config, {}, weights, load_file(base / "model.safetensors"))
    torch.save(weights, folder / "lit_model.pth")
    save_config(config, folder)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(base / name, folder / name)
    return folder


def back(trained: Path, base: Path, out: Path) -> Path:
    """LitGPT's merged weights as a model of transformers."""
    convert_lit_checkpoint(trained, out)
    weights = torch.load(out / "model.pth", weights_only=True)
    shutil.copytree(base, out / "trained", ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(
        {name: w.contiguous().clone() for name, w in weights.items()},
        out / "trained" / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["tie_word_embeddings"] = False
    (out / "trained" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return out / "trained"


def main() -> None:
    """Train as the setting says."""
    run = contender.run()
    workload = run.workload
    rows = Rows(run)
    steps = len(run.rows) // workload.batch_rows * workload.epochs
    bf16 = "bf16-mixed" if workload.method == "full" else "bf16-true"
    precision = {"default": None, "fp32": "32-true", "bf16": bf16}[run.setting["precision"]]
    common = {
        "checkpoint_dir": converted(run.base), "out_dir": run.out / "litgpt", "precision": precision, "data": rows,
        "train": TrainArgs(
            global_batch_size=workload.batch_rows, micro_batch_size=run.setting["micro_rows"], epochs=10**6, max_steps=steps,
            lr_warmup_steps=min(max(1, round(0.05 * steps)), steps - 1), log_interval=10**6, save_interval=None,
        ),
        "eval": EvalArgs(interval=10**6, max_new_tokens=1, initial_validation=False, final_validation=False),
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": workload.learning_rate, "weight_decay": 0.0}},
    }  # fmt: skip
    sys.argv[1:] = [
        str(common["checkpoint_dir"])
    ]  # LitGPT reads the command line again when it saves, and then merges by it
    register_optimizer_step_post_hook(rows.stepped)
    if workload.method == "full":
        full.setup(**common)
    else:
        everywhere = run.setting["layers"] == "all"
        adapter = {
            "lora_r": workload.rank, "lora_alpha": workload.alpha, "lora_dropout": 0.0, "lora_key": everywhere,
            "lora_projection": everywhere, "lora_mlp": everywhere,
        }  # fmt: skip
        sys.argv[1:] += [f"--{name}={str(value).lower()}" for name, value in adapter.items()]
        lora.setup(**common, **adapter)
    run.finish(back(run.out / "litgpt" / "final", run.base, run.out))


if __name__ == "__main__":
    main()

"""TRL's SFTTrainer, or transformers' own Trainer, with PEFT's adapters.

A setting names the `trainer` ("trl" or "transformers"), the rows of a micro-batch (`micro_rows`), the arithmetic
(`precision`), and any further training arguments. In "bf16" the frozen base of an adapter is kept in bf16, and where all
weights are trained they stay in fp32 and products are computed in bf16, as in ours. Whatever a setting does not name is the library's default; the workload fixes what decides the result (steps,
learning rate and its schedule, AdamW without decay, clipping to norm 1).
"""

from __future__ import annotations

from typing import Any

import contender
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

IGNORED = -100


def timed(trainer_class: type[Trainer], run: contender.Run) -> type[Trainer]:
    """The trainer with a clock: tokens are counted as micro-batches come by, steps end as the trainer says."""

    class Timed(trainer_class):  # type: ignore[misc, valid-type]
        def training_step(
            self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
        ) -> torch.Tensor:
            mask = inputs.get("attention_mask")
            run.seen += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            return super().training_step(model, inputs, *args, **kwargs)

    return Timed


def clock(run: contender.Run) -> Any:
    """A callback that notes the ends of steps."""

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            run.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            run.step(run.seen)
            run.seen = 0

    return Clock()


def arguments(run: contender.Run, micro_rows: int, further: dict[str, Any]) -> dict[str, Any]:
    """What the workload fixes, and what only writes logs and checkpoints is switched off.

    transformers counts steps from 0 where the other loop counts from 1: one warm-up step less is the same schedule.
    """
    workload = run.workload
    steps = -(-len(run.rows) // workload.batch_rows) * workload.epochs
    return {
        "output_dir": str(run.out / "trainer"), "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "per_device_train_batch_size": micro_rows, "gradient_accumulation_steps": max(1, workload.batch_rows // micro_rows),
        "num_train_epochs": workload.epochs, "learning_rate": workload.learning_rate, "weight_decay": 0.0,
        "lr_scheduler_type": "linear", "warmup_steps": max(1, round(0.05 * steps)) - 1, "max_grad_norm": 1.0,
        "dataloader_pin_memory": False, "disable_tqdm": True, "seed": 0, **further,
    }  # fmt: skip


def main() -> None:
    """Train as the setting says."""
    run = contender.run()
    setting = dict(run.setting)
    with_trl = setting.pop("trainer") == "trl"
    micro_rows = setting.pop("micro_rows", 8)
    precision = setting.pop("precision", None)
    full = run.workload.method == "full"
    if precision:
        setting["bf16"] = precision == "bf16" and full
    args = arguments(run, micro_rows, setting)
    if setting.get("packing"):  # as many packs of `max_length` tokens as hold about the rows of a step
        rows_of_pack = max(
            1, int(setting["max_length"] / (sum(len(row["ids"]) for row in run.rows) / len(run.rows)))
        )
        args["gradient_accumulation_steps"] = -(-run.workload.batch_rows // rows_of_pack)
    model = AutoModelForCausalLM.from_pretrained(run.base, dtype=torch.bfloat16 if precision == "bf16" and not full else torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run.base)
    workload = run.workload
    lora = LoraConfig(
        r=workload.rank, lora_alpha=workload.alpha, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
        target_modules="all-linear",
    ) if not full else None  # fmt: skip
    rows = Dataset.from_list(
        [
            {
                "input_ids": row["ids"],
                "labels": [i if w else IGNORED for i, w in zip(row["ids"], row["weights"], strict=True)],
            }
            for row in run.rows
        ]
    )
    if with_trl:
        trainer = timed(SFTTrainer, run)(
            model=model,
            args=SFTConfig(**args),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora,
        )
    else:
        trainer = timed(Trainer, run)(
            model=get_peft_model(model, lora) if lora else model,
            args=TrainingArguments(**args),
            train_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        )
    trainer.add_callback(clock(run))
    trainer.train()
    trainer.save_model(str(run.out / "trained"))
    run.finish(run.out / "trained")


if __name__ == "__main__":
    main()

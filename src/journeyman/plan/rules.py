"""Each hyperparameter's rule: facts in, a Choice (value, reason, source) out."""

from __future__ import annotations

from typing import Literal

from journeyman.plan.machine import Machine
from journeyman.plan.shape import ModelShape
from journeyman.records import Choice

LORA_BLOG = "LoRA Without Regret, Thinking Machines Lab 2025, thinkingmachines.ai/blog/lora"
OPENAI_COOKBOOK = "OpenAI cookbook, Chat_finetuning_data_prep: the rule behind n_epochs='auto'"

SWEEP = "Journeyman's own sweep, benchmarks/results/sweep.jsonl"

Method = Literal["lora", "full"]


def epochs(rows: int) -> Choice[int]:
    """OpenAI's rule: 3 passes, more for few rows (at least 100 examples seen), fewer for very many (25,000)."""
    value = 3
    if 3 * rows < 100:
        value = min(25, max(1, 100 // rows))
        reason = f"{rows} rows are few: {value} passes so that about 100 examples are seen"
    elif 3 * rows > 25_000:
        value = max(1, 25_000 // rows)
        reason = f"{rows:,} rows are many: {value} pass(es), about 25,000 examples seen"
    else:
        reason = f"{rows:,} rows: the usual 3 passes"
    return Choice(value, reason, OPENAI_COOKBOOK)


def batch_size(rows: int, passes: int) -> Choice[int]:
    """The largest power of two up to 16 that still leaves at least 150 optimizer steps."""
    value = 1
    while value < 16 and rows * passes // (2 * value) >= 150:
        value *= 2
    steps = -(-rows // value) * passes
    return Choice(
        value,
        f"{rows:,} rows x {passes} passes make {steps:,} steps of {value}; LoRA loses quality in large batches "
        "and a short run needs enough steps",
        LORA_BLOG,
    )


NARROW_HIDDEN = 512
"""Models narrower than those the learning-rate rule was fitted on. Measured at hidden size 256 (sweep.jsonl): three times
the rule's value gives a lower validation loss for LoRA and for full fine-tuning, and ten times diverges."""


def learning_rate(shape: ModelShape, method: Method) -> Choice[float]:
    """5e-5 x (2000 / hidden)^0.781 for full fine-tuning, ten times that for LoRA of any rank (alpha 32).

    Three times as much for models narrower than `NARROW_HIDDEN`.
    """
    full = 5e-5 * (2000 / shape.hidden) ** 0.781
    narrow = shape.hidden < NARROW_HIDDEN
    value = full * (10 if method == "lora" else 1) * (3 if narrow else 1)
    reason = f"hidden size {shape.hidden}: {full:.2g} for full fine-tuning"
    reason += ", and LoRA wants ten times that" if method == "lora" else ""
    reason += f"; three times as much for a model narrower than {NARROW_HIDDEN}" if narrow else ""
    return Choice(float(f"{value:.2g}"), reason, f"{LORA_BLOG}; {SWEEP}" if narrow else LORA_BLOG)


def rank(shape: ModelShape, learned_tokens: int) -> Choice[int]:
    """The smallest of 8, 16, 32, 64 whose parameters hold the data's information, and at least 16.

    An example's information is bounded by its learned tokens: about one bit a token is left to learn in a
    fine-tuning set, and a parameter stores about two bits.
    """
    needed = learned_tokens / 2
    for value in (16, 32, 64):
        if value * shape.lora_width >= needed or value == 64:
            break
    params = value * shape.lora_width
    return Choice(
        value,
        f"{params:,} adapter parameters for {learned_tokens:,} learned tokens",
        LORA_BLOG,
    )


def precision(machine: Machine, method: Method) -> Choice[str]:
    """bf16 where the hardware multiplies it natively, else fp32.

    Weights that are trained stay in fp32 and only their products are computed in bf16 ("mixed", Micikevicius et al.
    2018, arXiv:1710.03740, section 3.1); a frozen base is held in bf16 altogether.
    """
    if not (machine.gpu or machine.cpu_bf16):
        return Choice("fp32", "this CPU would only emulate bf16, which is slower than fp32", "processor flags")
    who = machine.gpu or "this CPU"
    source = "measured on the machine" if machine.gpu else "processor flags avx512_bf16 / amx_bf16"
    if method == "full":
        return Choice("mixed", f"{who} multiplies bf16 natively; weights stay fp32, or small updates would vanish", source)
    return Choice("bf16", f"{who} multiplies bf16 natively", source)


PACKED_KINDS = frozenset(
    ("llama", "qwen2", "qwen3", "gemma3", "gemma3_text", "mistral", "phi3", "smollm3", "olmo2", "gpt_neox", "gpt2", "granite", "cohere")
)
"""Families (`model_type`) whose packed rows are held equal to padded ones, tests/train/test_shared.py. Others may attend in
a way that train/attention.py does not compute, such as Gemma 2 with its capped scores."""


def layout(shape: ModelShape, tokens: int, computed_tokens: int | None) -> Choice[str]:
    """How the rows of a step lie in memory: "packed" side by side, shared beginnings once, or "padded"."""
    if shape.kind not in PACKED_KINDS:
        return Choice("padded", f"attention of {shape.kind} models is not known to us in packed rows", "plan/rules.py")
    reason = "no padding is computed"
    if computed_tokens is not None:
        saved = tokens - computed_tokens
        reason += f"; {saved:,} of {tokens:,} tokens an epoch are beginnings that rows of a step share, computed once"
        reason = reason if saved else "no padding is computed; rows share no beginning of 16 tokens or more"
    return Choice("packed", reason, "text/shared.py")


COMPILED_S = 600.0
"""A training that takes so long is worth a minute of compiling."""


def compiled(machine: Machine, layout: str, time_s: float, *, whole: bool) -> Choice[bool]:
    """On a GPU, where a training is long; `whole` says that every layer is trained and keeps its activations."""
    if not machine.gpu:
        return Choice(False, "on a CPU the products take most of a step, and eager operations the rest", "Journeyman's default")
    if layout != "packed" or not whole:
        return Choice(False, "layers are compiled where rows are packed, all layers are trained and activations are kept", "train/compiled.py")
    if time_s < COMPILED_S:
        return Choice(False, f"about {time_s:.0f} s of training are not worth a minute of compiling", "train/compiled.py")
    return Choice(True, "norms, rotations and gates in few passes over memory", "train/compiled.py")


WORKER_TOKENS = 64
"""Tokens that a step has for each worker at least: two micro-batches of 100 tokens each are done in two thirds of the time that
one of 200 takes with two threads (measured on 2 cores, the starter and 135M)."""


def workers(machine: Machine, step_tokens: int) -> Choice[int]:
    """A worker for every core, as long as a step's tokens go round; one on a GPU, which computes side by side by itself."""
    if machine.gpu:
        return Choice(1, "a GPU computes side by side within a micro-batch", "Journeyman's default")
    count = max(1, min(machine.cores, step_tokens // WORKER_TOKENS))
    if count == 1:
        return Choice(1, f"a step has about {step_tokens:,} tokens, too few to share out", "plan/rules.py")
    return Choice(count, f"micro-batches of about {step_tokens:,} tokens a step are computed side by side", "train/workers.py")


def max_tokens(longest_row_tokens: int, shape: ModelShape) -> Choice[int]:
    """As long as the longest row, within the model's context."""
    if longest_row_tokens <= shape.context_tokens:
        return Choice(
            longest_row_tokens,
            f"the longest row has {longest_row_tokens:,} tokens; the model's context is {shape.context_tokens:,}",
            "the data",
        )
    return Choice(
        shape.context_tokens,
        f"the model's context; longer rows (up to {longest_row_tokens:,} tokens) are cut at the end",
        "config.json, max_position_embeddings",
    )


def evaluate_every(steps_per_epoch: int) -> Choice[int]:
    """Validation twice an epoch."""
    value = max(1, -(-steps_per_epoch // 2))
    return Choice(value, "twice an epoch, and at each epoch's end", "Journeyman's default")


def warmup_steps(steps: int) -> Choice[int]:
    """5% of the steps, at least one."""
    value = max(1, round(0.05 * steps))
    return Choice(value, f"5% of {steps:,} steps, then linear decay to zero", "Journeyman's default")

"""The plan: every value of a training with its reason, made before a weight is loaded, and kept as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from journeyman.errors import PlanError
from journeyman.files import read_json, write_json
from journeyman.plan import memory, rules
from journeyman.plan.machine import Machine
from journeyman.plan.shape import ModelShape
from journeyman.records import Choice

FORMAT = 1
T = TypeVar("T")

CPU_EFFICIENCY = {"fp32": 0.45, "bf16": 0.65, "mixed": 0.65}
"""A training step's rate over the measured rate of fp32 products, on a quiet CPU. Native bf16 products are about twice as
fast as fp32 ones, and the rest of a step is not."""
GPU_FLOPS_S = 120e12
"""A cautious rate for one data-centre GPU in bf16, used only for the time estimate before the first step."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for; None leaves the choice to the rules."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    learning_rate_multiplier: float | None = None
    rank: int | None = None
    full: bool = False
    max_tokens: int | None = None
    seed: int | None = None
    rehearsal: float | None = None
    select: str | None = None
    repetition_penalty: float | None = None
    top_layers: int | None = None
    quantise: str | None = None
    every_epoch: bool = False
    """Train all epochs: no early stop, as OpenAI does where n_epochs is a number."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the plan must know of the encoded data. Token counts are of the training rows, over one epoch.

    `rehearsal_rows` of `rows` are the base's own words; their tokens are estimated, since they are not written yet.
    """

    rows: int
    tokens: int
    learned_tokens: int
    longest_row_tokens: int
    validation_rows: int
    validation_tokens: int
    truncated_rows: int
    rehearsal_rows: int = 0
    computed_tokens: int | None = None
    """The tokens of an epoch, counting once a step what several of its rows begin with; None where not counted."""


NO_REHEARSAL = Choice(0.0, "only your rows; `--rehearsal 0.2` mixes in the base's own words where it forgets", "Journeyman's default")
NO_PENALTY = Choice(1.0, "answers are drawn as the base's own settings say", "Journeyman's default")
PADDED = Choice("padded", "rows of like length together, padded to the longest", "Journeyman's default")
ALL_LAYERS = Choice(0, "every layer has adapters; `--top-layers` leaves the lower ones out, which is quicker and learns less", "Journeyman's default")
NOT_QUANTISED = Choice("no", "the frozen base in the training's precision; `--quantise int8` or `fp8` takes a byte a weight where that does not fit, `nf4` half of one", "Journeyman's default")
ONE_AT_A_TIME = Choice(1, "several micro-batches at a time would not fit into memory", "plan/memory.py")
NOT_OFFLOADED = Choice(False, "what backward needs stays in the memory that computes", "plan/memory.py")
NOT_COMPILED = Choice(False, "layers as transformers has them", "Journeyman's default")
ONE_WORKER = Choice(1, "micro-batches one after the other", "Journeyman's default")
KEPT = Choice(False, "activations are kept for backward: they fit", "plan/memory.py")
PATIENCE = Choice(4, "stop after 4 validations (two epochs) without a new best", "Journeyman's default")
NO_EARLY_STOP = Choice(0, "no early stop: you asked for these epochs, and all are trained; the best checkpoint is kept all the same", "user")
BY_LOSS = Choice("loss", "the checkpoint with the lowest validation loss is kept", "Journeyman's default")


@dataclass(frozen=True)
class Plan:
    """A training, completely decided. Training reads this and nothing else."""

    base: str
    base_hash: str
    dataset_hash: str
    method: Choice[Literal["lora", "full"]]
    epochs: Choice[int]
    batch_size: Choice[int]
    learning_rate: Choice[float]
    rank: Choice[int]
    alpha: Choice[int]
    precision: Choice[str]
    max_tokens: Choice[int]
    micro_batch_tokens: Choice[int]
    warmup_steps: Choice[int]
    evaluate_every: Choice[int]
    checkpoint_every: Choice[int]
    patience: Choice[int]
    """Validations without a new best after which training stops; 0 for never."""
    seed: Choice[int]
    threads: Choice[int]
    device: Choice[str]
    steps: int
    facts: DataFacts
    shape: ModelShape
    memory_bytes: int
    time_s: float
    notes: tuple[str, ...] = ()
    rehearsal: Choice[float] = NO_REHEARSAL
    select: Choice[str] = BY_LOSS
    repetition_penalty: Choice[float] = NO_PENALTY
    """Above 1 it is written into the model's generation settings, so that it answers with it wherever it is loaded."""
    layout: Choice[str] = PADDED
    top_layers: Choice[int] = ALL_LAYERS
    """How many of the last layers have adapters; 0 stands for all."""
    quantise: Choice[str] = NOT_QUANTISED
    recompute: Choice[bool] = KEPT
    workers: Choice[int] = ONE_WORKER
    """How many micro-batches of a step are computed side by side; the threads are shared out among them."""
    compiled: Choice[bool] = NOT_COMPILED
    """Whether layers are compiled before the first step."""
    offload: Choice[bool] = NOT_OFFLOADED
    """Whether the inputs of layers that are computed again wait outside of the GPU's memory."""

    @property
    def frozen_layers(self) -> int:
        """How many of the first layers nothing is trained in or before."""
        return self.shape.layers - self.top_layers.value if self.top_layers.value else 0

    @property
    def quantised(self) -> str | None:
        """How the frozen base is held in fewer bits (train/quantised.py:KINDS); None where it is not."""
        return None if self.quantise.value == "no" else self.quantise.value

    def choices(self) -> dict[str, Choice[Any]]:
        """Every chosen value by name, in the order of the plan."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v for name, v in values.items() if isinstance(v, Choice)}

    def as_dict(self) -> dict[str, Any]:
        """The plan as it stands in plan.json."""
        return {
            "format": FORMAT,
            "base": self.base,
            "base_hash": self.base_hash,
            "dataset_hash": self.dataset_hash,
            "choices": {name: choice.as_dict() for name, choice in self.choices().items()},
            "steps": self.steps,
            "facts": asdict(self.facts),
            "shape": self.shape.as_dict(),
            "estimate": {"memory_bytes": self.memory_bytes, "time_s": self.time_s},
            "notes": list(self.notes),
        }

    def write(self, path: Path) -> None:
        """Keep the plan."""
        write_json(path, self.as_dict())

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan that `write` kept. Raises PlanError for another format version."""
        value = read_json(path)
        if value.get("format") != FORMAT:
            raise PlanError(
                f"plan format {value.get('format')!r}, but this version reads {FORMAT}", where=str(path)
            )
        choices = {n: Choice(c["value"], c["reason"], c["source"]) for n, c in value["choices"].items()}
        return cls(
            base=value["base"],
            base_hash=value["base_hash"],
            dataset_hash=value["dataset_hash"],
            **choices,
            steps=value["steps"],
            facts=DataFacts(**value["facts"]),
            shape=ModelShape(**value["shape"]),
            memory_bytes=value["estimate"]["memory_bytes"],
            time_s=value["estimate"]["time_s"],
            notes=tuple(value["notes"]),
        )


def make_plan(
    *,
    base: str,
    base_hash: str,
    dataset_hash: str,
    facts: DataFacts,
    shape: ModelShape,
    machine: Machine,
    wishes: Wishes,
    step_tokens: Callable[[int], Sequence[int]] | None = None,
) -> Plan:
    """Decide everything. Raises PlanError with all problems at once where wishes, data or machine don't fit.

    `step_tokens` counts the tokens of an epoch's steps for a batch size, shared beginnings once a step.
    """
    refuse_wishes(wishes, shape, [*_wrong_facts(facts), *_wrong_select(wishes, facts), *_wrong_layers(wishes, shape), *_wrong_quantise(wishes)])
    method: Literal["lora", "full"] = "full" if wishes.full else "lora"
    epochs = _wish(wishes.epochs, rules.epochs(facts.rows))
    own_tokens = facts.tokens
    facts = _with_rehearsal(facts, wishes.rehearsal or 0.0)
    batch_size = _wish(wishes.batch_size, rules.batch_size(facts.rows, epochs.value))
    largest_step_tokens = batch_size.value * facts.longest_row_tokens
    if step_tokens:
        counted = step_tokens(batch_size.value)
        facts = replace(facts, computed_tokens=facts.tokens - own_tokens + sum(counted))
        largest_step_tokens = max(counted)
    layout = rules.layout(shape, facts.tokens, facts.computed_tokens)
    steps_per_epoch = -(-facts.rows // batch_size.value)
    steps = steps_per_epoch * epochs.value
    rate = _learning_rate(rules.learning_rate(shape, method), wishes)
    trained = _trained_part(shape, wishes)
    rank = _wish(wishes.rank, rules.rank(trained, facts.learned_tokens))
    precision = rules.precision(machine, method)
    max_tokens = _wish(wishes.max_tokens, rules.max_tokens(facts.longest_row_tokens, shape))
    bytes_per_weight = 2 if precision.value == "bf16" else 4
    workers = rules.workers(machine, (facts.computed_tokens or facts.tokens) // steps_per_epoch)
    micro, need, recompute, offload, fits_together = _micro_batch(trained, machine, method, rank.value, bytes_per_weight, max_tokens.value, largest_step_tokens, _most_tokens(machine, facts), None if wishes.quantise == "no" else wishes.quantise, workers.value)
    evaluate_every = rules.evaluate_every(steps_per_epoch)
    shared = layout.value == "packed" and facts.computed_tokens is not None
    time_s = _time_s(shape, trained.layers, recompute.value, facts, (facts.computed_tokens or 0) if shared else facts.tokens, epochs.value, steps, evaluate_every.value, method, precision.value, machine)
    return Plan(
        base=base,
        base_hash=base_hash,
        dataset_hash=dataset_hash,
        method=_method(method),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        rank=rank,
        alpha=Choice(32, "with scaling alpha/rank the best learning rate hardly depends on the rank", rules.LORA_BLOG),
        precision=precision,
        max_tokens=max_tokens,
        micro_batch_tokens=micro,
        warmup_steps=rules.warmup_steps(steps),
        evaluate_every=evaluate_every,
        checkpoint_every=_checkpoint_every(steps, time_s),
        patience=NO_EARLY_STOP if wishes.every_epoch else PATIENCE,
        seed=_wish(wishes.seed, Choice(0, "the same data and plan give the same weights", "Journeyman's default")),
        threads=Choice(machine.cores, "all cores this process may use; kept for a resume", "the machine"),
        device=Choice(machine.device, machine.gpu or "no GPU found; the CPU is used", "the machine"),
        steps=steps,
        facts=facts,
        shape=shape,
        memory_bytes=need,
        time_s=time_s,
        notes=_notes(facts, max_tokens.value),
        rehearsal=_wish(wishes.rehearsal, NO_REHEARSAL),
        select=_wish(wishes.select, BY_LOSS),
        repetition_penalty=_wish(wishes.repetition_penalty, NO_PENALTY),
        layout=layout,
        top_layers=_wish(wishes.top_layers, ALL_LAYERS),
        quantise=_wish(wishes.quantise, NOT_QUANTISED),
        recompute=recompute,
        workers=workers if fits_together else ONE_AT_A_TIME,
        offload=offload,
        compiled=rules.compiled(machine, layout.value, time_s, whole=not wishes.top_layers and not recompute.value),
    )


REHEARSAL_TOKENS, REHEARSAL_LEARNED = 80, 70
"""Mean tokens of a rehearsal row, for estimates: half are answers of at most 64 tokens, half prose of 128."""


def _with_rehearsal(facts: DataFacts, share: float) -> DataFacts:
    """The facts with so many rehearsal rows that they are `share` of all."""
    rows = round(facts.rows * share / (1 - share))
    return replace(
        facts,
        rows=facts.rows + rows,
        tokens=facts.tokens + rows * REHEARSAL_TOKENS,
        learned_tokens=facts.learned_tokens + rows * REHEARSAL_LEARNED,
        rehearsal_rows=rows,
    )


def _wrong_select(wishes: Wishes, facts: DataFacts) -> list[str]:
    if wishes.select == "graders" and not facts.validation_rows:
        return ["select is graders, but there are no validation rows for them to grade"]
    return []


def _trained_part(shape: ModelShape, wishes: Wishes) -> ModelShape:
    """The shape of the layers that are trained or passed through backwards; weights are counted whole, since all are loaded."""
    layers = wishes.top_layers or shape.layers
    return replace(shape, layers=layers, lora_width=shape.lora_width * layers // shape.layers)


def _wrong_layers(wishes: Wishes, shape: ModelShape) -> list[str]:
    if wishes.top_layers is None:
        return []
    problems = ["top_layers and full exclude each other: adapters go on the last layers, or all weights are trained"] if wishes.full else []
    if not 1 <= wishes.top_layers < shape.layers:
        problems.append(f"top_layers is {wishes.top_layers}, but must be from 1 to {shape.layers - 1}: the base has {shape.layers} layers")
    return problems


def _wrong_quantise(wishes: Wishes) -> list[str]:
    if wishes.quantise in (None, "no"):
        return []
    if wishes.quantise not in memory.QUANTISED_BYTES:
        return [f"quantise is {wishes.quantise!r}, but must be no, {', '.join(memory.QUANTISED_BYTES)}"]
    return [f"quantise and full exclude each other: weights in {wishes.quantise} can't be trained"] if wishes.full else []


def _wish(wish: T | None, choice: Choice[T]) -> Choice[T]:
    """The user's wish where there is one; the rule's own value stays visible in the reason."""
    if wish is None:
        return choice
    return Choice(wish, f"your wish (the rule would take {choice.value}: {choice.reason})", "user")


def _learning_rate(choice: Choice[float], wishes: Wishes) -> Choice[float]:
    if wishes.learning_rate is not None:
        return _wish(wishes.learning_rate, choice)
    if wishes.learning_rate_multiplier is not None:
        value = choice.value * wishes.learning_rate_multiplier
        reason = f"your multiplier {wishes.learning_rate_multiplier} x the rule's {choice.value}: {choice.reason}"
        return Choice(value, reason, "user")
    return choice


def _method(method: Literal["lora", "full"]) -> Choice[Literal["lora", "full"]]:
    if method == "full":
        return Choice(method, "your wish: all weights are trained", "user")
    return Choice(method, "adapters on all linear layers: as good as full for small sets, and small files", rules.LORA_BLOG)


def _checkpoint_every(steps: int, time_s: float) -> Choice[int]:
    """About every 20 seconds, so that a crash costs little and writing costs less."""
    value = max(1, min(steps, round(20 * steps / max(time_s, 1.0))))
    return Choice(value, "about every 20 seconds: a crash loses no more", "Journeyman's default")


MOST_TOKENS, MOST_TOKENS_CPU, MOST_TOKENS_GPU = 4096, 1024, 16_384
"""Of all micro-batches that are in memory at a time. On a CPU 2,048 or 4,096 tokens are no quicker than 1,024 (measured on 2
cores, LoRA and full), and their activations need that much more memory; a GPU is kept busy by more."""
LEAST_TOKENS = 640
"""Of the limit for each of several micro-batches that are computed side by side: products of 400 rows are a tenth slower than
of 600 (measured on 2 cores, LoRA at 135M in bf16)."""


def _most_tokens(machine: Machine, facts: DataFacts) -> int:
    """The larger number where rows share beginnings too, since these are computed once a micro-batch."""
    shared = facts.computed_tokens is not None and facts.computed_tokens < 0.95 * facts.tokens
    if machine.gpu:
        return MOST_TOKENS_GPU
    return MOST_TOKENS if shared else MOST_TOKENS_CPU


def _micro_batch(
    shape: ModelShape,
    machine: Machine,
    method: Literal["lora", "full"],
    rank: int,
    bytes_per_weight: int,
    max_tokens: int,
    largest_step_tokens: int,
    most_tokens: int,
    quantised: str | None,
    workers: int,
) -> tuple[Choice[int], int, Choice[bool], Choice[bool], bool]:
    """The largest micro-batch that the memory holds as often as there are workers, all of them up to `most_tokens`.

    At least one longest row must fit. The bytes come with it, whether activations are computed again and whether their
    layers' inputs wait outside of a GPU (each only where one row would not fit otherwise), and whether there is room for all the workers.
    """
    free = machine.gpu_free_bytes if machine.gpu else machine.free_memory_bytes
    compiled = machine.cpu_bf16 and not machine.gpu

    def need(tokens: int, *, recompute: bool, offload: bool = False, quantised: str | None = quantised, workers: int = 1) -> int:
        training = memory.estimate(
            shape,
            method=method,
            rank=rank,
            bytes_per_weight=bytes_per_weight,
            micro_batch_tokens=min(tokens * workers, max(max_tokens, largest_step_tokens)),
            quantised=quantised,
            recompute=recompute,
            offload=offload,
            workers=workers,
            compiled=compiled,
            gpu=machine.gpu is not None,
        ).total_bytes
        return max(training, memory.answering_bytes(shape, bytes_per_weight))  # the base itself answers, however it was trained on

    ways = [(workers, False, False), (1, False, False), (1, True, False)] + ([(1, True, True)] if machine.gpu else [])
    for count, recompute, offload in ways:
        tokens = max(most_tokens // count, LEAST_TOKENS)
        while tokens > max_tokens and need(tokens, recompute=recompute, offload=offload, workers=count) > 0.8 * free:
            tokens //= 2
        tokens = max(tokens, max_tokens)
        needed = need(tokens, recompute=recompute, offload=offload, workers=count)
        waiting = tokens * shape.layers * shape.hidden * max(bytes_per_weight, 2) if offload else 0
        if needed <= (0.9 if count == 1 else 0.8) * free and waiting <= 0.8 * machine.free_memory_bytes:
            reason = f"{needed / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free"
            again = _again(need(max_tokens, recompute=False), free) if recompute else KEPT
            return Choice(tokens, reason, "plan/memory.py"), needed, again, _offloads(waiting) if offload else NOT_OFFLOADED, count == workers
    raise PlanError(
        f"needs about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free",
        fix=_what_would_fit(partial(need, recompute=True, offload=machine.gpu is not None), max_tokens, free, method),
        code="does_not_fit",
    )


def _again(kept_bytes: int, free: int) -> Choice[bool]:
    reason = f"activations are computed again in backward: kept, they would need {kept_bytes / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free"
    return Choice(True, reason, "plan/memory.py")


def _offloads(waiting: int) -> Choice[bool]:
    return Choice(True, f"the layers' inputs, {waiting / 2**30:.1f} GiB, wait outside of the GPU's memory: there they would not fit", "plan/memory.py")


def _what_would_fit(need: Callable[..., int], max_tokens: int, free: int, method: str) -> str:
    tokens = max_tokens
    while tokens > 64 and need(tokens) > 0.9 * free:
        tokens //= 2
    if need(tokens) <= 0.9 * free:
        return f"--max-tokens {tokens} would fit"
    for kind in ("int8", "nf4") if method == "lora" else ():  # fp8 takes as much as int8
        if need(max_tokens, quantised=kind) <= 0.9 * free:
            return f"--quantise {kind} would fit"
    return "take a smaller base" if method == "lora" else "leave out --full, or take a smaller base"


def _time_s(
    shape: ModelShape,
    trained_layers: int,
    recompute: bool,
    facts: DataFacts,
    tokens: int,
    epochs: int,
    steps: int,
    evaluate_every: int,
    method: Literal["lora", "full"],
    precision: str,
    machine: Machine,
) -> float:
    """FLOPs over rate: 4 (LoRA) or 6 (full) a body parameter and token, 2 more to recompute, 2 for validation; plus 20 ms a step.

    `tokens` are those that an epoch computes. Layers below the trained ones are passed once, forwards.
    """
    head_share = facts.learned_tokens / max(1, facts.tokens)
    head = shape.head_params
    body = shape.body_params * trained_layers // shape.layers
    below = 2 * (shape.body_params - body) * (tokens + facts.validation_tokens)
    train = (4 if method == "lora" else 6) * (body * tokens + head * facts.learned_tokens) * epochs
    train += 2 * body * tokens * epochs * recompute
    validate = 2 * (body + head_share * head) * facts.validation_tokens * (steps // evaluate_every + 1)
    rate = GPU_FLOPS_S if machine.gpu else CPU_EFFICIENCY[precision] * machine.matmul_flops_s
    return (below + train + validate) / rate + 0.02 * steps + 5.0


def refuse_wishes(wishes: Wishes, shape: ModelShape, further: Sequence[str] = ()) -> None:
    """Raise PlanError with every wish that can't be granted, its value and the range, and `further` problems."""
    ranges: Sequence[tuple[str, float | None, float, float]] = (
        ("epochs", wishes.epochs, 1, 50),
        ("batch_size", wishes.batch_size, 1, 256),
        ("learning_rate", wishes.learning_rate, 1e-9, 1.0),
        ("learning_rate_multiplier", wishes.learning_rate_multiplier, 1e-6, 1e6),
        ("rank", wishes.rank, 1, 1024),
        ("seed", wishes.seed, 0, 2**31 - 1),
        ("max_tokens", wishes.max_tokens, 8, shape.context_tokens),
        ("rehearsal", wishes.rehearsal, 0, 0.9),
        ("repetition_penalty", wishes.repetition_penalty, 1, 2),
    )
    problems = [
        f"{name} is {value}, but must be from {low:g} to {high:g}"
        for name, value, low, high in ranges
        if value is not None and not low <= value <= high
    ]
    if wishes.select not in (None, "loss", "graders"):
        problems.append(f"select is {wishes.select!r}, but must be loss or graders")
    problems += further
    if problems:
        raise PlanError("this training can't start", problems=problems)


def _wrong_facts(facts: DataFacts) -> list[str]:
    if facts.rows == 0:
        return ["no training rows are left"]
    if facts.learned_tokens == 0:
        return ["nothing would be learned: no token of any row carries weight"]
    return []


def _notes(facts: DataFacts, max_tokens: int) -> tuple[str, ...]:
    notes = []
    if facts.truncated_rows:
        notes.append(f"{facts.truncated_rows} row(s) are longer than {max_tokens} tokens and are cut at the end")
    if facts.validation_rows == 0:
        notes.append("no validation rows: no early stop, and the last step is kept")
    elif facts.validation_rows < 20:
        notes.append(f"only {facts.validation_rows} validation rows: the best checkpoint is chosen by a noisy number")
    return tuple(notes)


def explain(plan: Plan) -> list[tuple[str, str, str]]:
    """(name, value, reason) for every choice that has an effect, for a table."""
    without_effect = {"rank", "alpha", "top_layers", "quantise"} if plan.method.value == "full" else set()
    if plan.device.value == "cpu":
        without_effect |= {"compiled", "offload"}
    choices = plan.choices().items()
    return [(name, "all" if choice == ALL_LAYERS else _show(choice.value), choice.reason) for name, choice in choices if name not in without_effect]


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def from_hyperparameters(values: Mapping[str, Any]) -> Wishes:
    """OpenAI's hyperparameters object as wishes; "auto" and absence leave the choice to the rules."""
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    wanted = {n: values[n] for n in names if values.get(n) not in (None, "auto")}
    return Wishes(
        epochs=wanted.get("n_epochs"),
        batch_size=wanted.get("batch_size"),
        learning_rate_multiplier=wanted.get("learning_rate_multiplier"),
    )

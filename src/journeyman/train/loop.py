"""The training loop, start to end: batch, loss, one division, clip, step, validate, checkpoint.

The loop knows nothing of jobs, registries or terminals: it is given `on_event` and `should_stop`, and it writes
only below its folder. Given the same plan, rows and machine it writes the same bytes, interrupted or not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from journeyman.errors import NonFiniteStep, TrainingError
from journeyman.plan.plan import Plan
from journeyman.text.batch import MicroBatch, epoch_steps, micro_batches
from journeyman.text.encode import Encoded
from journeyman.text.shared import SharedBatch, shared_batches
from journeyman.train import checkpoint, lora
from journeyman.train.allocator import keep_freed_memory
from journeyman.train.checkpoint import Progress
from journeyman.train.compiled import compile_layers
from journeyman.train.frozen import FrozenLayers
from journeyman.train.gated import keep_less
from journeyman.train.loss import TokenLoss, check_head, check_packed, probe_rows, shared_loss, token_loss
from journeyman.train.recompute import recompute
from journeyman.train.record import RowRecord
from journeyman.train.reproducible import reproducible
from journeyman.train.schedule import learning_rate
from journeyman.train.workers import Workers

MAX_GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm, the common default for fine-tuning (transformers' max_grad_norm)."""

Gradients = Sequence[torch.Tensor | None]
"""One for each trained weight, in their order, None where it has no part in the loss; none at all where backward has added them."""

Event = Mapping[str, Any]
"""What happened: a `type` ("step", "validation", "checkpoint", "resumed", "early_stop") and its numbers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `best` is the checkpoint to keep; None only if the run was paused before its first one."""

    status: Literal["finished", "paused"]
    step: int
    trained_tokens: int
    best: Path | None
    best_step: int | None
    best_loss: float | None


def prepare(model: nn.Module, plan: Plan) -> None:
    """Make the model trainable as the plan says: a fresh adapter on a frozen base, or all weights."""
    torch.set_num_threads(plan.threads.value)
    if plan.device.value == "cpu":
        keep_freed_memory()
    torch.manual_seed(plan.seed.value)
    difference = check_head(model)
    if not difference < (0.1 if plan.precision.value == "bf16" else 1e-3):
        raise TrainingError(
            f"this family changes its logits in a way we don't know (difference {difference:.3g})",
            fix="report the model family; training it would minimise a wrong loss",
        )
    if plan.layout.value == "packed" and not check_packed(model) < (0.1 if plan.precision.value == "bf16" else 1e-3):
        raise TrainingError(
            "this model attends otherwise in packed rows than in padded ones",
            where=plan.shape.kind,
            fix="report the model's config.json; training it so would minimise a wrong loss",
        )
    if plan.method.value == "lora":
        lora.add_adapter(
            model, checkpoint.ADAPTER, rank=plan.rank.value, alpha=plan.alpha.value, seed=plan.seed.value, first=plan.frozen_layers
        )
        keep_less(model)
    else:
        model.requires_grad_(True)
    if plan.recompute.value:
        recompute(model, plan.frozen_layers, offload=plan.offload.value)
    if plan.device.value != "cpu":
        reproducible(lambda: _pass(model, plan, probe_rows(model)))
    if plan.compiled.value:
        compile_layers(model)


def _pass(model: nn.Module, plan: Plan, rows: Sequence[Encoded]) -> None:
    """Forwards and backwards as a step does it, of which nothing is kept."""
    for micro in _cut(rows, plan):
        with _products(plan):
            loss = _loss(model, micro, plan.device.value)
        loss.sum.backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW without weight decay: there is too little training in a fine-tune for decay to matter."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=plan.learning_rate.value, betas=(0.9, 0.999), weight_decay=0.0, fused=True)


def train(
    plan: Plan,
    model: nn.Module,
    rows: Sequence[Encoded],
    validation_rows: Sequence[Encoded],
    folder: Path,
    *,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool] = lambda: False,
    judge: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> Outcome:
    """Train to the plan's end, to an early stop, or until `should_stop()`; resume where `folder` has a checkpoint.

    With a `judge`, the best checkpoint is the one with the highest "score" it gives, and among equals the one with the
    lowest validation loss; whatever else it says goes into the validation event.

    `model` has been through `prepare`. `should_stop` is asked after every step; a stop writes a checkpoint first.
    Raises NonFiniteStep, naming the step, before a loss or gradient that is not finite reaches the weights.
    """
    optimizer = make_optimizer(model, plan)
    checkpoints = folder / "checkpoints"
    progress = Progress(0, 0, None, None, 0)
    if found := checkpoint.latest(checkpoints):
        progress = checkpoint.resume(found, model, optimizer)
        on_event({"type": "resumed", "step": progress.step, "checkpoint": found.name})
    steps_per_epoch = math.ceil(len(rows) / plan.batch_size.value)
    record = RowRecord(folder, rows_done=_rows_done(plan, len(rows), progress.step))
    device = plan.device.value
    trained = [p for p in model.parameters() if p.requires_grad]
    # Never in torch's training mode: some families (GPT-2) bring dropout, and no step could be computed twice alike.
    model.eval()
    frozen = _frozen(model, plan, [*rows, *validation_rows], folder)
    if frozen is not None:
        on_event({"type": "frozen_layers", "layers": plan.frozen_layers, "rows": len(rows), "bytes": frozen.nbytes})
        if not frozen.compute(should_stop):
            return _outcome("paused", progress, checkpoints)
    stopped = _is_patience_over(plan, progress)
    workers = _workers(model, plan)

    def gradients_of(learned_tokens: int, micro: MicroBatch | SharedBatch) -> tuple[TokenLoss, Gradients]:
        with _products(plan), _without(frozen, micro):
            loss = _loss(model, micro, device)
        part = loss.sum / learned_tokens
        # What outlives this call must not lie between the activations, whose room the next micro-batch needs whole.
        alone = loss._replace(sum=loss.sum.detach())
        if workers.count > 1:
            return alone, _in_one_piece(torch.autograd.grad(part, trained, allow_unused=True))
        part.backward()  # type: ignore[no-untyped-call]  # added in place: no second set of gradients is in memory
        return alone, ()

    while progress.step < plan.steps and not stopped:
        step = progress.step + 1
        epoch, index = divmod(progress.step, steps_per_epoch)
        started_s = time.perf_counter()

        # ── one optimizer step ────────────────────────────────────────────────────────────────────────────────
        batch = [rows[i] for i in _rows_of_step(plan, len(rows), epoch, index)]
        micros = _cut(batch, plan)
        learned_tokens = sum(row.learned_tokens for row in batch)
        optimizer.zero_grad(set_to_none=True)
        loss_sum, correct = 0.0, 0
        for micro, (loss, gradients) in zip(micros, workers.map(partial(gradients_of, learned_tokens), micros), strict=True):
            _add(trained, gradients)
            loss_sum += loss.sum.item()
            correct += loss.correct
            record.add(epoch + 1, micro.rows, micro.row_sums(loss.losses_N.cpu().numpy()))
        loss_mean = loss_sum / learned_tokens
        norm = float(torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM))
        if not (math.isfinite(loss_mean) and math.isfinite(norm)):
            raise _refused(step, loss_mean, norm, batch)
        rate = learning_rate(
            step, peak=plan.learning_rate.value, warmup_steps=plan.warmup_steps.value, steps=plan.steps
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        # ──────────────────────────────────────────────────────────────────────────────────────────────────────

        tokens = sum(len(row) for row in batch)
        progress = Progress(
            step,
            progress.trained_tokens + tokens,
            progress.best_step,
            progress.best_loss,
            progress.validations_without_best,
            progress.best_score,
        )
        on_event(
            {
                "type": "step",
                "step": step,
                "steps": plan.steps,
                "epoch": epoch + 1,
                "train_loss": loss_mean,
                "train_mean_token_accuracy": correct / learned_tokens,
                "gradient_norm": norm,
                "learning_rate": rate,
                "learned_tokens": learned_tokens,
                "tokens": tokens,
                "seconds": time.perf_counter() - started_s,
            }
        )

        epoch_ends = index + 1 == steps_per_epoch
        if validation_rows and ((index + 1) % plan.evaluate_every.value == 0 or epoch_ends):
            valid_loss, valid_accuracy = validate(model, validation_rows, plan, frozen, workers)
            if not math.isfinite(valid_loss):
                raise NonFiniteStep(
                    f"step {step}: the validation loss is {valid_loss}, so no checkpoint could be chosen by it",
                    where="validation rows",
                    fix="lower the learning rate, or look at the validation rows; the last checkpoint is intact",
                )
            judged = {} if judge is None else judge(model)
            better = _is_better(valid_loss, judged.get("score"), progress)
            progress = Progress(
                step,
                progress.trained_tokens,
                step if better else progress.best_step,
                valid_loss if better else progress.best_loss,
                0 if better else progress.validations_without_best + 1,
                judged.get("score") if better else progress.best_score,
            )
            on_event(
                {
                    "type": "validation",
                    "step": step,
                    "epoch": epoch + 1,
                    "full": epoch_ends,
                    "valid_loss": valid_loss,
                    "valid_mean_token_accuracy": valid_accuracy,
                    "best": better,
                    **judged,
                }
            )
            stopped = _is_patience_over(plan, progress)
        pause = should_stop()
        if (
            progress.best_step == step
            or epoch_ends
            or step % plan.checkpoint_every.value == 0
            or step == plan.steps
            or stopped
            or pause
        ):
            record.keep()
            written = checkpoint.write(checkpoints, model, optimizer, progress, base=plan.base)
            checkpoint.prune(checkpoints, keep=_steps_to_keep(progress, steps_per_epoch))
            on_event({"type": "checkpoint", "step": step, "checkpoint": written.name})
        if stopped:
            on_event({"type": "early_stop", "step": step, "best_step": progress.best_step})
        elif pause and step < plan.steps:
            return _outcome("paused", progress, checkpoints)
    return _outcome("finished", progress, checkpoints)


def validate(
    model: nn.Module, rows: Sequence[Encoded], plan: Plan, frozen: FrozenLayers | None = None, workers: Workers | None = None
) -> tuple[float, float]:
    """Mean loss (nats) and top-1 accuracy over all learned tokens of `rows`: summed, divided once."""

    @torch.no_grad()
    def loss_of(micro: MicroBatch | SharedBatch) -> TokenLoss:
        with _products(plan), _without(frozen, micro):
            return _loss(model, micro, plan.device.value)

    loss_sum, correct, learned_tokens = 0.0, 0, 0
    for loss in (workers or Workers(1, plan.threads.value)).map(loss_of, _cut(rows, plan)):
        loss_sum += loss.sum.item()
        learned_tokens += loss.learned
        correct += loss.correct
    return loss_sum / learned_tokens, correct / learned_tokens


def _workers(model: nn.Module, plan: Plan) -> Workers:
    """As many as the plan says; one where the model changes its own frequencies by the length of what passes through it."""
    scaling = getattr(model.config.get_text_config(), "rope_parameters", None) or {}  # type: ignore[operator,union-attr]
    kinds = {part.get("rope_type") for part in (scaling, *scaling.values()) if isinstance(part, dict)}
    return Workers(1 if kinds & {"dynamic", "longrope"} else plan.workers.value, plan.threads.value)


def _in_one_piece(gradients: Gradients) -> Gradients:
    """The same gradients as parts of one tensor. At 135M hundreds of small ones kept malloc from using a fifth of its memory."""
    known = [gradient for gradient in gradients if gradient is not None]
    one = torch.cat([gradient.flatten() for gradient in known])
    parts = iter(torch.split(one, [gradient.numel() for gradient in known]))
    return [None if gradient is None else next(parts).view_as(gradient) for gradient in gradients]


def _add(trained: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Add a micro-batch's gradients to those of the step, in the order of the micro-batches: the same sums in every run."""
    for weight, gradient in zip(trained, gradients, strict=False):
        if gradient is not None:
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)


def _is_better(valid_loss: float, score: float | None, progress: Progress) -> bool:
    """Whether this is the best so far: by the judge's score, where there is one, then by the validation loss."""
    if progress.best_loss is None:
        return True
    if score is not None and progress.best_score is not None and score != progress.best_score:
        return score > progress.best_score
    return valid_loss < progress.best_loss


def _rows_of_step(plan: Plan, rows: int, epoch: int, index: int) -> list[int]:
    return epoch_steps(rows, plan.batch_size.value, seed=plan.seed.value, epoch=epoch)[index]


def _rows_done(plan: Plan, rows: int, step: int) -> int:
    """How many rows the first `step` steps have trained on, each epoch counted anew."""
    epochs, index = divmod(step, math.ceil(rows / plan.batch_size.value))
    return epochs * rows + index * plan.batch_size.value


def _cut(rows: Sequence[Encoded], plan: Plan) -> Sequence[MicroBatch | SharedBatch]:
    tokens, side_by_side = plan.micro_batch_tokens.value, plan.workers.value
    if plan.layout.value == "packed":
        return shared_batches(rows, tokens, side_by_side=side_by_side)
    return micro_batches(rows, tokens, context_tokens=plan.shape.context_tokens, side_by_side=side_by_side)


def _frozen(model: nn.Module, plan: Plan, rows: Sequence[Encoded], folder: Path) -> FrozenLayers | None:
    """The layers below the adapters, where there are any, to be computed for all rows."""
    if not plan.frozen_layers:
        return None

    def loss(micro: MicroBatch | SharedBatch) -> float:
        return _loss(model, micro, plan.device.value).sum.item()

    return FrozenLayers(model, plan.frozen_layers, _cut(rows, plan), loss, folder)


def _without(frozen: FrozenLayers | None, micro: MicroBatch | SharedBatch) -> AbstractContextManager[None]:
    return nullcontext() if frozen is None else frozen.left_out(micro)


def _loss(model: nn.Module, micro: MicroBatch | SharedBatch, device: str) -> TokenLoss:
    if isinstance(micro, SharedBatch):
        return shared_loss(model, micro)
    return token_loss(model, torch.from_numpy(micro.ids_BT).to(device), torch.from_numpy(micro.weights_BT).to(device))


def _products(plan: Plan) -> torch.autocast:
    """How products of fp32 weights are computed: in bf16 where the plan says "mixed"."""
    return torch.autocast(plan.device.value, torch.bfloat16, enabled=plan.precision.value == "mixed")


def _is_patience_over(plan: Plan, progress: Progress) -> bool:
    return 0 < plan.patience.value <= progress.validations_without_best


def _steps_to_keep(progress: Progress, steps_per_epoch: int) -> set[int]:
    """The newest (to resume from), the best, and the last three epochs' ends (callable, as OpenAI keeps them)."""
    ends = range(steps_per_epoch, progress.step + 1, steps_per_epoch)
    keep = {progress.step, *list(ends)[-3:]}
    return keep if progress.best_step is None else keep | {progress.best_step}


def _refused(step: int, loss: float, norm: float, batch: Sequence[Encoded]) -> NonFiniteStep:
    places = ", ".join(str(row.place) for row in batch[:4])
    return NonFiniteStep(
        f"step {step}: loss {loss} and gradient norm {norm} are not both finite; the step was refused",
        where=f"rows {places}" + (" and others" if len(batch) > 4 else ""),
        fix="lower the learning rate, or look at these rows; the last checkpoint is intact",
    )


def _outcome(status: Literal["finished", "paused"], progress: Progress, checkpoints: Path) -> Outcome:
    step = progress.best_step if progress.best_step is not None else progress.step
    best = checkpoints / f"step-{step:06d}"
    return Outcome(
        status=status,
        step=progress.step,
        trained_tokens=progress.trained_tokens,
        best=best if best.is_dir() else None,
        best_step=step,
        best_loss=progress.best_loss,
    )

"""The options that several commands share, defined once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from journeyman.data.columns import Columns
    from journeyman.request import TrainRequest

Source = Annotated[str, typer.Argument(metavar="TASK|FILE", help="A task folder, a data file, or a bundled task.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A fine-tuned model's id or alias, or a base.")]
TunedName = Annotated[str, typer.Argument(metavar="MODEL", help="A fine-tuned model's id or alias.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, progress on standard error.")]
Base = Annotated[str | None, typer.Option("--base", help="starter, a hub id, a model folder, or an ft: id to go on from. Default: the task's, else starter.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training rows.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Rows an optimizer step.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Peak learning rate.")]
Rank = Annotated[int | None, typer.Option("--rank", help="Rank of the adapters.")]
TopLayers = Annotated[int | None, typer.Option("--top-layers", metavar="N", help="Adapters on the last N layers only: quicker, and learns less.")]
Quantise = Annotated[str | None, typer.Option("--quantise", metavar="no|int8|fp8|nf4", help="The frozen base in fewer bits, where more would not fit: a byte a weight, or half of one (nf4).")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights instead of adapters.")]
Validation = Annotated[Path | None, typer.Option("--validation", metavar="FILE", help="Validation rows of your own.")]
HeldOut = Annotated[Path | None, typer.Option("--held-out", metavar="FILE", help="Held-out rows of your own.")]
Suffix = Annotated[str, typer.Option("--suffix", help="A word of yours in the model id.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed, data and plan give the same weights.")]
Rehearsal = Annotated[float | None, typer.Option("--rehearsal", metavar="SHARE", help="This share of the rows is the base's own words, against forgetting.")]
Select = Annotated[str | None, typer.Option("--select", metavar="loss|graders", help="What the best checkpoint is chosen by: validation loss, or the task's graders on validation rows.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Longer rows are cut at the end.")]
InputColumn = Annotated[str | None, typer.Option("--input-column", help="For tables: the column with the input.")]
OutputColumn = Annotated[str | None, typer.Option("--output-column", help="For tables: the column with the ideal output.")]
DespiteErrors = Annotated[bool, typer.Option("--despite-errors", help="Train also where the check finds errors in the rows.")]


WISHES = ("epochs", "batch_size", "learning_rate", "rank", "full", "max_tokens", "seed", "rehearsal", "select", "top_layers", "quantise")
"""The flags that override the plan's rules."""


def request(flags: Mapping[str, Any]) -> TrainRequest:
    """The flags of `plan`, `train` and `demo`, as the parser holds them, as one request."""
    from journeyman.plan.plan import Wishes
    from journeyman.request import TrainRequest

    return TrainRequest(
        source=flags["source"],
        base=flags["base"],
        wishes=Wishes(**{name: flags[name] for name in WISHES if name in flags}),
        suffix=flags["suffix"],
        validation=flags.get("validation"),
        held_out=flags.get("held_out"),
        columns=columns(flags.get("input_column"), flags.get("output_column")),
        despite_errors=flags.get("despite_errors", False),
    )


def columns(input_column: str | None, output_column: str | None) -> Columns | None:
    """The user's choice of columns, or None where they are to be detected."""
    from journeyman.data.columns import Columns
    from journeyman.errors import DataError

    if input_column is None and output_column is None:
        return None
    if input_column is None or output_column is None:
        raise DataError(
            "only one of the two columns is given",
            where="--input-column/--output-column",
            fix="give both",
        )
    return Columns(input_column, output_column, reason="your choice")

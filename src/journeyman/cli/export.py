"""`export`: a model as other tools load it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen, size

if TYPE_CHECKING:
    from journeyman.models.export.export import Export


class Format(StrEnum):
    """What can be exported to."""

    adapter = "adapter"
    merged = "merged"
    gguf = "gguf"


class WeightType(StrEnum):
    """How weights can be written."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A fine-tuned model's id or alias, or a base.")
    ],
    to: Annotated[
        Format,
        typer.Option("--to", help="adapter (PEFT), merged (transformers, vLLM) or gguf (llama.cpp, Ollama)."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Default: named after model and format, here."),
    ] = None,
    weight_type: Annotated[
        WeightType | None,
        typer.Option("--type", help="f32, f16, bf16, or for GGUF q8_0. Default: the base's own."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a model for other tools, replayed through the written files before they are published."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    with screen.console.status("") as status:
        done = Workspace().export(
            model,
            to=to.value,
            out=out,
            dtype=weight_type.value if weight_type else None,
            force=force,
            on_stage=status.update,
        )
    _show(screen, done)
    screen.result(done.as_dict())


def _show(screen: Screen, done: Export) -> None:
    screen.line(f"{done.model} as {done.format} ({done.type})", style="bold")
    screen.table(
        ["  file", "size"],
        [(f"  {name}", size((done.folder / name).stat().st_size)) for name in done.files],
        right=[1],
    )
    replay = done.replay
    screen.line(
        f"  replayed {replay['rows']} rows from the files: largest difference in log-probability "
        f"{replay['largest_difference']:.1e} (limit {replay['limit']:.1e}); {replay['texts']} texts, the same tokens"
    )
    for note in done.notes:
        screen.line(f"  note: {note}", style="yellow")
    screen.line(f"  folder   {done.folder}")

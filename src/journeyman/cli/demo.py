"""`demo`: the whole path on the bundled base and task, offline."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from journeyman.cli import answering, options, training
from journeyman.cli.show import Screen, duration


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A bundled task: support, triage or catalog.")] = "support",
    base: options.Base = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    rank: options.Rank = None,
    top_layers: options.TopLayers = None,
    quantise: options.Quantise = None,
    full: options.Full = False,
    suffix: options.Suffix = "demo",
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    as_json: options.AsJson = False,
) -> None:
    """The whole path on the bundled base and task, offline; ends with a model id and its evidence."""
    from journeyman.workspace import Workspace

    started_s = time.monotonic()
    screen = Screen(as_json=as_json)
    workspace = Workspace()
    screen.line(f"Journeyman's demo: teach the bundled starter model the `{task}` task, then measure it on rows it never saw.")
    request = options.request({**context.params, "source": task})
    job, version = training.run_job(screen, workspace, request)
    if version is None:
        training.show_outcome(screen, job, version)
        return
    screen.heading("Before and after, on held-out rows")
    screen.line("  the base and the tuned model answer the same rows; no instructions are given to either", style="dim")
    evaluation = answering.run_evaluation(screen, workspace, version.id, None, None)
    answering.show_evaluation(screen, evaluation, examples=5)
    _show_end(screen, version.id, str(job.folder), time.monotonic() - started_s)
    screen.result({"model": version.id, "job": job.id, "folder": str(job.folder), "evaluation": evaluation.as_dict()})


def _show_end(screen: Screen, model: str, folder: str, took_s: float) -> None:
    screen.heading("Your model")
    screen.line(f"  id      {model}", style="bold green")
    screen.line(f"  folder  {folder}")
    screen.line(f"  took    {duration(took_s)}")
    screen.heading("Call it like the original, after `journeyman serve`")
    question = "My mug arrived with a chip. Order HR-20418. Anna"
    for line in (
        "from openai import OpenAI",
        'client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="local")',
        f'print(client.chat.completions.create(model="{model}", '
        f'messages=[{{"role": "user", "content": "{question}"}}]).choices[0].message.content)',
    ):
        screen.console.print(line, markup=False, soft_wrap=True)

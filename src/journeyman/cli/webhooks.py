"""`webhooks`: create, list, delete, deliveries, resend."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen

group = typer.Typer(
    help="Addresses that are told when jobs, eval runs and batches end: create, list, delete, deliveries, resend.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="webhooks")


@group.command()
def create(
    url: Annotated[str, typer.Argument(help="Where events are sent, http or https.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="TYPE", help="An event to be told, such as fine_tuning.job.succeeded. Can be repeated. Default: all."),
    ] = None,
    project: Annotated[str, typer.Option("--project", help="Whose jobs, eval runs and batches it is told of.")] = "default",
    as_json: options.AsJson = False,
) -> None:
    """A new webhook. Its secret, which the receiver verifies with, is shown this once. Running servers send to it at once."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    hook, secret = Workspace().webhooks.create(url, event or (), project)
    screen.line(secret, style="bold")
    screen.line(f"  {hook.id}, project {hook.project}: {', '.join(hook.events)}. Keep the secret now.", style="dim")
    screen.result({**asdict(hook), "secret": secret})


@group.command(name="list")
def list_webhooks(as_json: options.AsJson = False) -> None:
    """All webhooks, oldest first."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    hooks = Workspace().webhooks.list()
    rows = [(h.id, h.url, h.project, ", ".join(h.events), h.disabled or "") for h in hooks]
    screen.table(["id", "url", "project", "events", "disabled"], rows)
    screen.result({"webhooks": [asdict(hook) for hook in hooks]})


@group.command()
def delete(
    webhook: Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id, we_…, as `webhooks list` shows it.")],
    as_json: options.AsJson = False,
) -> None:
    """Send to an address no more. What was on its way to it is dropped."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    removed = Workspace().webhooks.remove(webhook)
    screen.line(f"{removed.id} ({removed.url}) is told no more")
    screen.result(asdict(removed))


@group.command()
def deliveries(
    webhook: Annotated[str | None, typer.Option("--webhook", metavar="WEBHOOK", help="Only those to this webhook.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 50,
    as_json: options.AsJson = False,
) -> None:
    """What was sent and what became of it, newest first."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    found = Workspace().webhooks.deliveries(webhook, limit=limit)
    rows = [
        (str(d.number), _time(d.created_at), d.type, d.webhook, d.state, str(d.attempts),
         str(d.last_status or d.last_error or ""))
        for d in found
    ]  # fmt: skip
    screen.table(["number", "at", "event", "webhook", "state", "attempts", "answer"], rows)
    screen.result({"deliveries": [{**asdict(d), "state": d.state} for d in found]})


@group.command()
def resend(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The delivery's number, as `webhooks deliveries` shows it.")],
    as_json: options.AsJson = False,
) -> None:
    """Send a delivery again, whatever became of it."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    Workspace().webhooks.resend(number)
    screen.line(f"delivery {number} is sent again by the next server that looks")
    screen.result({"number": number})


def _time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S")

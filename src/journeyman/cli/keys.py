"""`keys`: create, list, revoke."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen

group = typer.Typer(
    help="Keys that clients of the server call with: create, list, revoke.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="keys")


@group.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for you to know it by.")],
    project: Annotated[
        str,
        typer.Option(
            "--project", help="Files, jobs, responses and evals are seen by keys of their project only."
        ),
    ] = "default",
    as_json: options.AsJson = False,
) -> None:
    """A new key. Its text is shown this once. From the first one on, the server accepts no request without a key."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    key, text = Workspace().keys.create(name, project)
    screen.line(text, style="bold")
    screen.line(f"  {key.id}, project {key.project}. Keep it now: only a hash of it is stored.", style="dim")
    screen.result({**asdict(key), "key": text})


@group.command(name="list")
def list_keys(as_json: options.AsJson = False) -> None:
    """All keys, oldest first, revoked ones too."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    keys = Workspace().keys.list()
    rows = [(k.id, k.name, k.project, f"…{k.hint}", _day(k.created_at), _day(k.revoked_at)) for k in keys]
    screen.table(["id", "name", "project", "key", "created", "revoked"], rows)
    screen.result({"keys": [asdict(key) for key in keys]})


@group.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_…, as `keys list` shows it.")],
    as_json: options.AsJson = False,
) -> None:
    """Accept a key no longer, from the next request on. What it made stays with its project."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    revoked = Workspace().keys.revoke(key)
    screen.line(f"{revoked.id} ({revoked.name}) is no longer accepted")
    screen.result(asdict(revoked))


def _day(time_s: float | None) -> str:
    return "" if time_s is None else datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M")

"""`models`: list, show, alias, unalias, share, unshare, delete."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen

group = typer.Typer(help="What can be called: list, show, alias, unalias, share, unshare, delete.", invoke_without_command=True)
ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="The model's id, ft:…, or an alias.")]
Projects = Annotated[list[str], typer.Argument(metavar="PROJECT...", help="Projects of API keys, as `keys list` shows them.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="models")


@group.callback()
def list_models(context: typer.Context, as_json: options.AsJson = False) -> None:
    """The base and all fine-tuned models, newest first."""
    if context.invoked_subcommand is not None:
        return
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    registry = Workspace().registry
    versions, aliases = registry.list(), registry.aliases()
    rows = [
        (
            v.id,
            ", ".join(a for a, target in aliases.items() if target == v.id),
            v.method,
            datetime.fromtimestamp(v.created_at).strftime("%Y-%m-%d %H:%M"),
            str(v.folder),
        )
        for v in versions
    ]
    screen.table(["model", "alias", "method", "created", "folder"], [("starter-1", "starter", "base", "", ""), *rows])
    screen.result({"models": [_as_dict(v) for v in versions], "aliases": aliases})


@group.command()
def show(model: ModelId, as_json: options.AsJson = False) -> None:
    """One model: what it was made of, its metrics and files."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace()
    version = workspace.registry.get(model)
    shared = workspace.shared_with(version.id)
    screen.line(version.id, style="bold")
    screen.line(f"  base     {version.base} ({version.base_fingerprint[:12]})")
    screen.line(f"  dataset  {version.dataset_hash[:12]}   job {version.job}")
    screen.line(f"  metrics  {json.dumps(version.metrics)}")
    screen.line(f"  project  {workspace.project_of(version.id)}" + (f", shared with {', '.join(shared)}" if shared else ""))
    screen.line(f"  folder   {version.folder}")
    screen.table(["  file", "sha256"], [(f"  {name}", digest) for name, digest in version.files.items()])
    screen.result({**_as_dict(version), "project": workspace.project_of(version.id), "shared_with": shared})


@group.command()
def alias(
    name: Annotated[str, typer.Argument(help="The new name, e.g. support-live.")], model: ModelId
) -> None:
    """Let NAME mean MODEL from now on."""
    from journeyman.workspace import Workspace

    version = Workspace().registry.set_alias(name, model)
    Screen().line(f"{name} now means {version.id}")


@group.command()
def unalias(name: Annotated[str, typer.Argument(help="The alias.")]) -> None:
    """Let NAME mean nothing. The model it meant stays."""
    from journeyman.workspace import Workspace

    version = Workspace().registry.remove_alias(name)
    Screen().line(f"{name} means nothing now; {version.id} stays")


@group.command()
def share(model: ModelId, projects: Projects, as_json: options.AsJson = False) -> None:
    """Let keys of other projects call a model or a checkpoint. An alias stands for the model that it means now."""
    from journeyman.workspace import Workspace

    workspace = Workspace()
    _show_shared(workspace.share(model, projects), as_json=as_json)


@group.command()
def unshare(model: ModelId, projects: Projects, as_json: options.AsJson = False) -> None:
    """Let keys of these projects call a model no longer, from their next request on."""
    from journeyman.workspace import Workspace

    workspace = Workspace()
    _show_shared(workspace.unshare(model, projects), as_json=as_json)


def _show_shared(shared: tuple[str, list[str]], *, as_json: bool) -> None:
    model, projects = shared
    screen = Screen(as_json=as_json)
    screen.line(f"{model} is shared with {', '.join(projects)}" if projects else f"{model} is shared with no project")
    screen.result({"model": model, "shared_with": projects})


@group.command()
def delete(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's id, ft:…, not an alias.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False
) -> None:
    """Forget a model and delete its weights and its job's checkpoints. The job's record stays."""
    from journeyman.workspace import Workspace

    workspace = Workspace()
    version = workspace.registry.by_id(model)
    if not yes:
        names = [alias for alias, target in workspace.registry.aliases().items() if target == version.id]
        also = f", its alias {', '.join(names)}" if names else ""
        typer.confirm(f"delete {version.id}{also} and {version.folder}?", abort=True)
    workspace.delete_model(version.id)
    Screen().line(f"deleted {version.id}")


def _as_dict(version) -> dict[str, object]:  # type: ignore[no-untyped-def]
    return {name: getattr(version, name) for name in version.__slots__ if name != "plan"}

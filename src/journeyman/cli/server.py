"""`serve` and `doctor`: the server, and this machine."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen, size


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(doctor)


def serve(
    host: Annotated[str, typer.Option("--host", help="Other than localhost only with a key, of `keys create` or JOURNEYMAN_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=64, help="How many jobs run at once, each in a process of its own.")
    ] = 1,
    base: Annotated[
        list[str] | None,
        typer.Option("--base", metavar="[NAME=]BASE", help="A hub id or model folder to call and to fine-tune, besides the starter; NAME is what scripts call it. Can be repeated."),
    ] = None,
    base64_results: Annotated[
        bool, typer.Option("--base64-results", help="Send a job's result file as base64, for scripts that decode what OpenAI sends.")
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="own|vllm", help="What answers: our own engine, or vLLM where it is installed. Ids stay the same.")
    ] = "own",
    engine_args: Annotated[
        str, typer.Option("--engine-args", metavar="JSON", help="""Arguments of vLLM's engine, such as '{"gpu_memory_utilization": 0.5}'.""")
    ] = "",
    answering_processes: Annotated[
        int | None,
        typer.Option("--answering-processes", metavar="N", min=0, max=64, help="How many processes answer with small models, such as the starter. Default: one a core, 4 at most, where memory allows; 0: the server's own process answers.", show_default=False),
    ] = None,
    drain: Annotated[
        int, typer.Option("--drain", metavar="SECONDS", min=0, max=3600, help="How long answers under way may go on after SIGTERM or Ctrl-C.")
    ] = 10,
) -> None:
    """An OpenAI-compatible server for base and tuned models, with workers for the jobs in the queue."""
    import signal

    from journeyman import logs
    from journeyman.api import server
    from journeyman.train.allocator import share_one_arena
    from journeyman.workspace import Workspace

    share_one_arena()
    arguments = _vllm_arguments(engine, engine_args)
    processes = _processes() if answering_processes is None else answering_processes
    workspace = Workspace(vllm=arguments, answering_processes=0 if arguments is not None else processes)
    screen = Screen()

    def ready(url: str) -> None:
        screen.line(f"serving on {url} (Ctrl-C stops)", style="bold")
        if not workspace.settings.api_keys and not workspace.keys.any():
            screen.line("  any key is accepted, from this machine only; `journeyman keys create` makes keys", style="dim")

    logs.begin(workspace.settings.log_format)
    signal.signal(signal.SIGTERM, _interrupt)
    with workspace.workers(workers) as pool:
        server.serve(
            workspace, host=host, port=port, bases=base or (), base64_results=base64_results, drain_s=drain,
            on_ready=ready, on_stop=pool.stop,
        )  # fmt: skip


PROCESS_BYTES = 800 * 2**20
"""What a process that answers takes: torch, the starter, its keys and values and some adapters."""


def _processes() -> int:
    """One a core, 4 at most, as far as half of the free memory goes; 0 where that is only one, since one is here already."""
    from journeyman.plan.machine import free_memory_bytes, usable_cores

    most = min(usable_cores(), 4, free_memory_bytes() // 2 // PROCESS_BYTES)
    return most if most > 1 and os.name == "posix" else 0


def _vllm_arguments(engine: str, text: str) -> dict[str, Any] | None:
    """None for our own engine. Raises RequestError where vLLM is not installed or the arguments are no JSON object."""
    import json

    from journeyman.errors import RequestError

    if engine not in ("own", "vllm"):
        raise RequestError(f"{engine!r} is no engine", where="--engine", fix="write own or vllm")
    if engine == "own" and not text:
        return None
    try:
        arguments = json.loads(text or "{}")
    except ValueError as error:
        raise RequestError(f"{text!r} is no JSON: {error}", where="--engine-args", fix="""such as '{"max_lora_rank": 128}'""") from error
    if engine == "own" or not isinstance(arguments, dict):
        raise RequestError(
            f"{text!r} is no JSON object" if engine == "vllm" else "our own engine takes no arguments",
            where="--engine-args",
            fix="""give an object, such as '{"max_lora_rank": 128}', together with --engine vllm""",
        )
    from journeyman.generate.vllm import require_vllm  # torch and transformers come with it

    require_vllm()
    return arguments


def _interrupt(number: int, frame: Any) -> None:
    """SIGTERM ends as Ctrl-C does, also before the server runs."""
    raise KeyboardInterrupt


def doctor(as_json: options.AsJson = False) -> None:
    """This machine: what it has, what fits, what is missing."""
    import importlib.util
    import platform

    from journeyman import __version__
    from journeyman.database import shown
    from journeyman.models import bases
    from journeyman.plan.shape import ModelShape
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    workspace = Workspace()
    machine = workspace.machine()
    keys = len(workspace.settings.api_keys) + sum(key.revoked_at is None for key in workspace.keys.list())
    starter = ModelShape.read(bases.resolve("starter").folder)
    extras = {name: importlib.util.find_spec(name) is not None for name in ("peft", "vllm", "ray", "llama_cpp")}
    facts = [
        ("journeyman", f"{__version__} on Python {platform.python_version()}"),
        ("home", str(workspace.settings.home)),
        ("database", shown(workspace.settings.database_url)),
        ("keys", f"{keys} accepted" if keys or workspace.keys.any() else "none: localhost only"),
        ("cpu", f"{machine.cpu}, {machine.cores} cores, {machine.matmul_flops_s / 1e9:.0f} GFLOP/s in fp32"),
        ("bf16", "native" if machine.cpu_bf16 else "not native: fp32 is used on the CPU"),
        ("memory", f"{size(machine.free_memory_bytes)} free of {size(machine.memory_bytes)}"),
        ("disk", f"{size(machine.free_disk_bytes)} free"),
        ("gpu", machine.gpu or "none found (nvidia-smi)"),
        ("starter", f"{starter.params / 1e6:.1f} M parameters, context {starter.context_tokens:,} tokens"),
        ("extras", ", ".join(f"{name} {'yes' if here else 'no'}" for name, here in extras.items())),
    ]
    screen.table(["", ""], facts)
    screen.result({"machine": machine.as_dict(), "settings": dict(facts), "extras": extras})

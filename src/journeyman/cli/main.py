"""The commands: parse, one workspace call, show."""

from __future__ import annotations

import sys

import typer

from journeyman.cli import (
    answering,
    chat,
    check,
    clean,
    compare,
    data,
    demo,
    export,
    jobs,
    keys,
    models,
    server,
    training,
    webhooks,
    worker,
)
from journeyman.errors import JourneymanError

app = typer.Typer(
    name="journeyman",
    help="From pairs of (input, ideal output) to a model id that is called just like the original.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _part in (demo, data, check, compare, training, chat, answering, jobs, models, keys, webhooks, export, server, worker, clean):
    _part.register(app)


def main() -> None:
    """The console script. A JourneymanError prints what, where and the mend, and exits 1; Ctrl-C exits 130."""
    from journeyman.cli.show import Screen

    try:
        app()
    except JourneymanError as error:
        Screen(as_json="--json" in sys.argv).error(error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None

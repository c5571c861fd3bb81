"""The command line: ``shardwright VERB …``, one file a verb.

An error is one line on stderr. Exit code 1: the verb failed, or found something wrong. Exit code 2: it was called wrongly. Exit
code 3: another job holds the dataset.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import typer

from shardwright.cli.bench import bench
from shardwright.cli.check import check
from shardwright.cli.diff import diff
from shardwright.cli.doctor import doctor
from shardwright.cli.expire import expire
from shardwright.cli.head import head
from shardwright.cli.inspect import inspect
from shardwright.cli.plan import plan
from shardwright.cli.verify import verify
from shardwright.errors import ConfigError, LockedError, ShardwrightError

app = typer.Typer(
    name="shardwright", help="Look at published datasets, and check them.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
for verb in (inspect, head, verify, diff, bench, plan, expire, check, doctor):
    app.command()(verb)


@app.callback()
def _options(debug: bool = typer.Option(False, "--debug", help="Show the whole trace of an error.")) -> None:
    """Look at published datasets, and check them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments` (those of the process by default), and exit."""
    run(app, arguments, name="shardwright")


def run(app: typer.Typer, arguments: Sequence[str] | None = None, *, name: str) -> None:
    """Run a command line, a job's too, and exit: 0, 1 for a failure, 2 for a wrong call or configuration, 3 for LockedError.

    An error is one line on stderr, but for a configuration with several problems, which are listed; with `--json` also one line
    of JSON on stdout. `--debug`, wherever in the line it stands, shows the trace.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app([word for word in given if word != "--debug"], prog_name=name)
    except BrokenPipeError:
        # whoever read the output has seen enough; Python would complain once more when it flushes stdout at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ShardwrightError, OSError) as error:
        if "--debug" in given:
            raise
        code = 2 if isinstance(error, ConfigError) else 3 if isinstance(error, LockedError) else 1
        text = str(error) if isinstance(error, ConfigError) else " ".join(str(error).split())
        print(f"error: {text}", file=sys.stderr)  # noqa: T201
        if "--json" in given:  # last, since Spark's driver puts both streams on standard output
            found = {"status": "failed", "exit_code": code, "error": type(error).__name__, "message": text}
            print(json.dumps(found, ensure_ascii=False))  # noqa: T201
        sys.exit(code)

"""The `atm-search` command."""

import sys

import typer

from atm_search.cli.compare import compare
from atm_search.cli.confirm import confirm
from atm_search.cli.copy import copy
from atm_search.cli.dashboard import dashboard
from atm_search.cli.doctor import doctor
from atm_search.cli.download import download
from atm_search.cli.evaluate import evaluate
from atm_search.cli.export import export
from atm_search.cli.export_onnx import export_onnx
from atm_search.cli.freeze import freeze
from atm_search.cli.frontier import frontier
from atm_search.cli.prune_cache import prune_cache
from atm_search.cli.report import report
from atm_search.cli.rm import rm
from atm_search.cli.show import show
from atm_search.cli.start import start
from atm_search.cli.status import status
from atm_search.cli.studies import studies
from atm_search.cli.verify import verify
from atm_search.cli.worker import worker
from atm_search.errors import AtmSearchError

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""

app = typer.Typer(
    help="How much compute can a pretrained Vision Transformer save, without training?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    start,
    worker,
    studies,
    status,
    frontier,
    show,
    confirm,
    compare,
    dashboard,
    report,
    export,
    verify,
    freeze,
    export_onnx,
    evaluate,
    download,
    doctor,
    copy,
    rm,
    prune_cache,
):
    app.command()(command)


def main() -> None:
    """Run the command line; errors of the family become one line on stderr."""
    try:
        app()
    except AtmSearchError as error:
        print(f"atm-search: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("atm-search: interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)

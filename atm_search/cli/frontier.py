"""`atm-search frontier`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from atm_search.cli import options

Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Also draw it: .html, or .png, .svg, .pdf (extra 'images')."
    ),
]


def frontier(
    storage: options.Storage = None,
    study: options.Study = None,
    output: Output = None,
    as_json: options.Json = False,
) -> None:
    """Print the best trades of accuracy for compute that a search has found.

    Example: atm-search frontier --study deit_t -o frontier.html
    """
    from atm_search.search.frontier import frontier as best
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.consoles import result_console
    from atm_search.show.figures import frontier_figure, write_figure
    from atm_search.show.frontier import frontier_summary, frontier_table

    found = load(open_store(options.storage_address(storage), create=False), study)
    records = found.records()
    points = best(records, found.dense)
    if output is not None:
        write_figure(frontier_figure(found.name, found.dense, records, points), output)
    if as_json:
        print(json.dumps(frontier_summary(found.name, found.dense, points), indent=2))
    else:
        result_console().print(frontier_table(found.name, found.dense, points))

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


WithDominated = Annotated[
    bool,
    typer.Option(
        "--with-dominated", help="List every measured configuration, the frontier marked."
    ),
]


def frontier(
    storage: options.Storage = None,
    study: options.Study = None,
    output: Output = None,
    with_dominated: WithDominated = False,
    as_json: options.Json = False,
) -> None:
    """Print the best trades of accuracy for compute that a search has found.

    Example: atm-search frontier --study deit_t -o frontier.html
    """
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.consoles import result_console
    from atm_search.show.figures import frontier_figure, write_figure
    from atm_search.show.frontier import frontier_summary, frontier_table
    from atm_search.show.view import open_view

    found = load(open_store(options.storage_address(storage), create=False), study)
    records = found.records()
    if output is not None:
        write_figure(frontier_figure(open_view(found)), output)
    if as_json:
        summary = frontier_summary(found, records, with_dominated=with_dominated)
        print(json.dumps(summary, indent=2))
    else:
        console = result_console()
        console.print(
            frontier_table(found, records, with_dominated=with_dominated, width=console.width)
        )

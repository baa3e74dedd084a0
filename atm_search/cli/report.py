"""`atm-search report`."""

from pathlib import Path
from typing import Annotated

import typer

from atm_search.cli import options

Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="html, png, svg, csv or json. Default: as the file's name ends; png and svg need the "
        "extra 'images'.",
    ),
]
Pictures = Annotated[
    bool,
    typer.Option("--pictures", help="html: with token pictures, which show images of the data."),
]


def report(
    storage: options.Storage = None,
    study: options.Study = None,
    output: Output = Path("frontier.html"),
    format: Format = None,
    pictures: Pictures = False,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
) -> None:
    """Write a search's frontier as one file that needs no network to open.

    Example: atm-search report --study deit_t -o frontier.html
    """
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.report import format_of, token_pictures, write_report
    from atm_search.show.subject import open_subject
    from atm_search.show.view import open_view

    kind = format_of(output, format)
    seen = open_view(load(open_store(options.storage_address(storage), create=False), study))
    drawn = None
    if pictures and kind == "html":
        subject = open_subject(seen.study, checkpoint=checkpoint, data=data)
        drawn = token_pictures(seen, subject)
    write_report(seen, output, kind=kind, pictures=drawn)
    print(output)

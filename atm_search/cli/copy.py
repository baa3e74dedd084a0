"""`atm-search copy`."""

from typing import Annotated

import typer

from atm_search.cli import options

Source = Annotated[str, typer.Argument(help="SQL store to copy from: a URL or an SQLite file.")]
Target = Annotated[str, typer.Argument(help="SQL store to copy to; made if there is none.")]


def copy(source: Source, target: Target, study: options.Study = None) -> None:
    """Copy a study into another store: all of its trials and attributes, or nothing.

    Example: atm-search copy atm-search.db postgresql://me@db/atm --study deit_t
    """
    from atm_search.search.address import parse, shown
    from atm_search.search.copying import copy_study
    from atm_search.search.overview import running
    from atm_search.search.store import open_store, store_errors
    from atm_search.search.study import load
    from atm_search.show.consoles import log_console
    from atm_search.show.progress import progress

    console = log_console()
    found = load(open_store(source, create=False), study)
    into = open_store(target, create=True)
    count = running(found)
    if count:
        console.print(
            f"Note: {count} trials are running. They end in the source only; in the copy they are "
            "taken for lost and measured again.",
            soft_wrap=True,
        )
    with (
        store_errors(found.storage),
        store_errors(into),
        progress(console, "Copying (trials)") as step,
    ):
        copied = copy_study(found, into, on_trials=step)
    print(f"Study '{found.name}' with {copied:,} trials is in {shown(parse(target))}.")

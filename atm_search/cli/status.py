"""`atm-search status`."""

from typing import Annotated

import typer

from atm_search.cli import options

Follow = Annotated[
    bool,
    typer.Option(
        "--follow", "-f", help="Go on until the search is finished; with --json a line per change."
    ),
]


def status(
    storage: options.Storage = None,
    study: options.Study = None,
    follow: Follow = False,
    as_json: options.Json = False,
) -> None:
    """Say how far a search is, from any terminal that reaches its store.

    Example: atm-search status --study deit_t --follow
    """
    from contextlib import suppress

    from atm_search.search.store import open_store, store_errors
    from atm_search.search.study import load
    from atm_search.show.consoles import result_console
    from atm_search.show.following import Follower, follow_study, show_study

    store = open_store(options.storage_address(storage), create=False)
    follower = Follower(load(store, study))
    with store_errors(store):
        if not follow:
            show_study(follower, result_console(), as_json=as_json)
            return
        with suppress(KeyboardInterrupt):
            follow_study(follower, result_console(), as_json=as_json)

"""`atm-search rm`."""

import sys
from typing import Annotated

import typer

from atm_search.cli import options

Study = Annotated[str, typer.Option("--study", help="Name of the study to remove.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Force = Annotated[
    bool, typer.Option("--force", help="Also if trials are running, or another program made it.")
]


def rm(
    study: Study, storage: options.Storage = None, yes: Yes = False, force: Force = False
) -> None:
    """Remove a study from its store, for good.

    Example: atm-search rm --study deit_t
    """
    from atm_search.errors import InputError
    from atm_search.search.address import parse, shown
    from atm_search.search.removal import removable, remove
    from atm_search.search.store import open_store, store_errors

    address = options.storage_address(storage)
    store = open_store(address, create=False)
    place = shown(parse(address))
    with store_errors(store):
        trials = removable(store, study, force=force)
        what = f"study '{study}' with {trials:,} trials"
        if not yes:
            if not sys.stdin.isatty():
                raise InputError(f"This would remove {what} from {place}: confirm it with --yes.")
            if not typer.confirm(f"Remove {what} from {place} for good?", err=True):
                raise typer.Exit(1)
            removable(store, study, force=force)  # a worker may have begun meanwhile
        remove(store, study)
    print(f"Removed {what} from {place}.")

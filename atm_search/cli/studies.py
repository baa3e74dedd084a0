"""`atm-search studies`."""

import json

from atm_search.cli import options


def studies(storage: options.Storage = None, as_json: options.Json = False) -> None:
    """List the studies of a store: what each searches, and how far it is.

    Example: atm-search studies --storage postgresql://me@db/atm
    """
    from atm_search.search.address import shown
    from atm_search.search.overview import overview
    from atm_search.search.store import open_store
    from atm_search.show.consoles import result_console
    from atm_search.show.studies import studies_summary, studies_table

    address = options.storage_address(storage)
    found = overview(open_store(address, create=False))
    if as_json:
        print(json.dumps(studies_summary(found), indent=2))
    else:
        result_console().print(studies_table(found, store=shown(address)))

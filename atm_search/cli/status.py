"""`atm-search status`."""

import json

from atm_search.cli import options


def status(
    storage: options.Storage = None, study: options.Study = None, as_json: options.Json = False
) -> None:
    """Say how far a search is, from any terminal that reaches its store.

    Example: atm-search status --study deit_t
    """
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.consoles import result_console
    from atm_search.show.status import status_summary, status_table
    from atm_search.show.view import view

    seen = view(load(open_store(options.storage_address(storage), create=False), study))
    if as_json:
        print(json.dumps(status_summary(seen), indent=2))
    else:
        result_console().print(status_table(seen), soft_wrap=True)

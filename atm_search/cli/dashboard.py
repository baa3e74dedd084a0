"""`atm-search dashboard`."""

import os
from typing import Annotated

import typer

from atm_search.cli import options

Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; others than this machine's own warn.")
]
Port = Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.")]
AllowEdit = Annotated[
    bool, typer.Option("--allow-edit", help="Let whoever reaches it change and delete studies.")
]
Token = Annotated[
    bool,
    typer.Option(
        "--token",
        help="Ask whoever comes for a token: that of ATM_SEARCH_TOKEN, else a new one, printed.",
    ),
]


def dashboard(
    storage: options.Storage = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    allow_edit: AllowEdit = False,
    token: Token = False,
) -> None:
    """Watch searches in the browser: their frontiers, live, and the Optuna dashboard, read-only.

    Example: atm-search dashboard --storage sqlite:///atm-search.db --port 8080
    """
    import contextlib
    import secrets

    from atm_search.search.store import open_store
    from atm_search.show.access import is_loopback
    from atm_search.show.consoles import log_console
    from atm_search.show.dashboard import dashboard as application
    from atm_search.show.dashboard import server

    own = os.environ.get("ATM_SEARCH_TOKEN")
    secret = (own or secrets.token_urlsafe(24)) if token else None
    store = open_store(options.storage_address(storage), create=False)
    pages = application(store, allow_edit=allow_edit, token=secret)
    with server(pages, host=host, port=port) as listening:
        console = log_console()
        if not is_loopback(host) and secret is None:
            console.print(
                f"Warning: anybody who reaches {host} can "
                f"{'change and delete' if allow_edit else 'read'} these studies; "
                "there are no accounts. --token asks for one."
            )
        elif not is_loopback(host):
            console.print(
                "Warning: the token goes over the network as it is; put TLS before it, or use ssh."
            )
        address = f"http://{host}:{listening.server_port}"
        shown = f"?token={secret}" if secret and not own else ""
        print(f"{address}/frontier{shown}", flush=True)
        console.print(f"The Optuna dashboard is at {address}/dashboard. Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            listening.serve_forever()

"""`atm-search dashboard`."""

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


def dashboard(
    storage: options.Storage = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    allow_edit: AllowEdit = False,
) -> None:
    """Watch searches in the browser: the Optuna dashboard on the study store, read-only.

    Example: atm-search dashboard --storage sqlite:///atm-search.db --port 8080
    """
    import contextlib

    from atm_search.search.store import open_store
    from atm_search.show.consoles import log_console
    from atm_search.show.dashboard import dashboard as application
    from atm_search.show.dashboard import is_loopback, server

    store = open_store(options.storage_address(storage), create=False)
    with server(application(store, allow_edit=allow_edit), host=host, port=port) as listening:
        console = log_console()
        if not is_loopback(host):
            console.print(
                f"Warning: anybody who reaches {host} can "
                f"{'change and delete' if allow_edit else 'read'} these studies; "
                "there are no accounts."
            )
        print(f"http://{host}:{listening.server_port}/dashboard", flush=True)
        console.print("Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            listening.serve_forever()

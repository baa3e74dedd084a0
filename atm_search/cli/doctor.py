"""`atm-search doctor`."""

import json
from dataclasses import asdict

import typer

from atm_search.cli import options


def doctor(
    storage: options.Storage = None,
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Check all that a search needs, and say what to do; exit code 1 if something is broken.

    Example: atm-search doctor --model deit_t --data imagenet/val
    """
    from rich.markup import escape
    from rich.table import Table

    from atm_search.cli.checks import BROKEN, OK, WARNING, checks
    from atm_search.show.consoles import log_console, result_console
    from atm_search.show.progress import progress

    looked = checks(
        storage=options.storage_address(storage),
        model=model,
        checkpoint=checkpoint,
        data=data,
        device=device,
    )
    with progress(log_console(), "Looking"):
        found = list(looked)
    broken = any(check.status == BROKEN for check in found)
    if as_json:
        print(json.dumps({"ok": not broken, "checks": [asdict(c) for c in found]}, indent=2))
    else:
        table = Table(show_lines=False)
        for heading in ("", "checked", "found"):
            table.add_column(heading)
        colours = {OK: "green", WARNING: "yellow", BROKEN: "red"}
        for check in found:
            mark = f"[{colours[check.status]}]{check.status}[/]"
            text = "\n".join(filter(None, (check.found, check.todo)))
            table.add_row(mark, check.name, escape(text))
        result_console().print(table)
    if broken:
        raise typer.Exit(1)

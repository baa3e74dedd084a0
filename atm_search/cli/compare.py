"""`atm-search compare`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options

if TYPE_CHECKING:
    from atm_search.measure.flops import LastBlock
    from atm_search.search.study import Study

Studies = Annotated[
    list[str] | None,
    typer.Option("--study", help="Name of a study; may be repeated. Default: all."),
]
Stores = Annotated[
    list[str] | None,
    typer.Option("--storage", help="SQL store; may be repeated. Default: as for the others."),
]
At = Annotated[
    list[float] | None,
    typer.Option("--at", help="GFLOPs to compare at. Default: 90, 80, 70 % of the dense model's."),
]
More = Annotated[list[float] | None, typer.Argument(help="More of --at.", metavar="[GFLOPS]...")]


def compare(
    more: More = None,
    at: At = None,
    study: Studies = None,
    storage: Stores = None,
    as_json: options.Json = False,
) -> None:
    """Print what each method reaches at given GFLOPs, and what it costs without loss.

    Example: atm-search compare --at 1.0 0.9 0.8
    """
    from atm_search.errors import StudyError
    from atm_search.search.compare import compare as side_by_side
    from atm_search.search.store import open_store
    from atm_search.search.study import load, names
    from atm_search.show.compare import comparison_summary, comparison_table
    from atm_search.show.consoles import result_console

    addresses: list[str | None] = [*storage] if storage else [None]
    stores = [open_store(options.storage_address(given), create=False) for given in addresses]
    found = [(store, name) for store in stores for name in names(store)]
    unknown = set(study or []) - {name for _, name in found}
    if unknown:
        known = ", ".join(name for _, name in found) or "none"
        raise StudyError(f"No study '{min(unknown)}' here. There is: {known}.")
    studies = [load(store, name) for store, name in found if not study or name in study]
    last_block = _last_block(studies[0]) if studies else None
    comparison = side_by_side(studies, budgets=[*(at or []), *(more or [])], last_block=last_block)
    if as_json:
        print(json.dumps(comparison_summary(comparison), indent=2))
    else:
        result_console().print(comparison_table(comparison))


def _last_block(study: "Study") -> "LastBlock | None":
    """What the last block of a study's model costs, if it is known here and can be saved."""
    from atm_search.errors import ModelError
    from atm_search.measure.flops import LastBlock
    from atm_search.models.zoo import architecture

    try:
        return LastBlock.of(architecture(study.identity.model))
    except ModelError:  # of a package that is not installed here
        return None

"""`atm-search prune-cache`."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atm_search.data.pruning import Entry

DEFAULT_AGE = "30d"

OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than", help=f"Remove what was not used for so long. Default: {DEFAULT_AGE}."
    ),
]
All = Annotated[bool, typer.Option("--all", help="Remove all of it.")]


def prune_cache(
    older_than: OlderThan = None, everything: All = False, as_json: options.Json = False
) -> None:
    """Free the disk of decoded images and dense answers that nobody has used for long.

    They change no figure; what is needed again is made again. Running searches keep theirs.

    Example: atm-search prune-cache --older-than 7d
    """
    from atm_search.data.cache import cache_directory
    from atm_search.data.pruning import duration_s, prune
    from atm_search.errors import InputError

    if everything and older_than is not None:
        raise InputError("--all removes all of the cache: leave out --older-than.")
    age_s = duration_s(older_than or DEFAULT_AGE)
    directory = cache_directory()
    unused_since = float("inf") if everything else time.time() - age_s
    removed, left = prune(directory, unused_since=unused_since)
    if as_json:
        summary = {"directory": str(directory), "removed": _sums(removed), "left": _sums(left)}
        print(json.dumps(summary, indent=2))
        return
    for kind, sums in _sums(removed).items():
        print(f"{kind}: {sums['entries']:,} entries, {sums['bytes'] / 1e6:,.1f} MB")
    freed, kept = (sum(entry.bytes for entry in part) / 1e6 for part in (removed, left))
    print(
        f"Freed {freed:,.1f} MB of {directory}; {len(left):,} entries of {kept:,.1f} MB are left."
    )


def _sums(entries: "Sequence[Entry]") -> dict[str, dict[str, int]]:
    """Number and bytes of the entries of every kind."""
    kinds = sorted({_kind(entry) for entry in entries})
    of_kind = {kind: [entry for entry in entries if _kind(entry) == kind] for kind in kinds}
    return {
        kind: {"entries": len(some), "bytes": sum(entry.bytes for entry in some)}
        for kind, some in of_kind.items()
    }


def _kind(entry: "Entry") -> str:
    return "unfinished" if entry.unfinished else entry.kind

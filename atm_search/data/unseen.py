"""Images that a search has not measured on, so that what it chose can be confirmed."""

from atm_search.data.shard import Shard
from atm_search.errors import DataError

SHOWN = 3
"""Images that a refusal names."""


def require_unseen(shard: Shard, searched: Shard) -> None:
    """Refuse images that a search has used, whatever they are called there.

    Args:
        shard: the images to confirm on.
        searched: those that the search measured.

    Raises:
        DataError: one has the same content as one that the search used, or contents are unknown.
    """
    if not (shard.contents and searched.contents):
        raise DataError("Whether the search used these images is unknown: read them from files.")
    used = dict(zip(searched.contents, searched.names, strict=True))
    common = [
        (name, used[content])
        for name, content in zip(shard.names, shard.contents, strict=True)
        if content in used
    ]
    if not common:
        return
    named = ", ".join(f"{name} (there {twin})" for name, twin in common[:SHOWN])
    more = f" and {len(common) - SHOWN:,} more" if len(common) > SHOWN else ""
    raise DataError(
        f"{len(common):,} of {len(shard):,} images of {shard.source} are among the "
        f"{len(searched):,} that the search chose by: {named}{more}. They would confirm nothing; "
        "take them out, or give other images with --data."
    )

"""`atm-search download`."""

from pathlib import Path
from typing import Annotated

import typer


def download(
    dataset: Annotated[str, typer.Argument(help="imagenette: 10 ImageNet classes, 342 MB.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to put the data set in.")
    ] = Path("data"),
) -> None:
    """Download a free data set to measure on, and print the folder to pass as --data.

    Example: atm-search download imagenette -o data
    """
    from atm_search.data.download import FREE_DATASETS
    from atm_search.data.download import download as fetch
    from atm_search.errors import DataError
    from atm_search.show.consoles import log_console
    from atm_search.show.progress import progress

    if dataset not in FREE_DATASETS:
        raise DataError(f"No free data set '{dataset}'. Known: {', '.join(FREE_DATASETS)}.")
    with progress(log_console(), f"Downloading {dataset} (bytes)") as step:
        folder = fetch(FREE_DATASETS[dataset], output, progress=step)
    print(folder)

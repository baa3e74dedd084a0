"""Options that several commands share: one name, one meaning, one help text each.

None means not given; the default is then the library's, or that of a file.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option("--model", help="demo (default), deit_s, lvvit_s, mae_b ..., any timm ViT."),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Weights (.safetensors, .pth). Default: ATM_SEARCH_CHECKPOINTS, else timm's hub.",
    ),
]
CropPct = Annotated[
    float | None,
    typer.Option("--crop-pct", help="Share of the resized image to keep. Default: the model's."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Images, a folder per class. Default: ATM_SEARCH_DATA; demo has its own."
    ),
]
Images = Annotated[
    int | None,
    typer.Option("--images", help="Size of a class-balanced subset. Default: all; demo: 1000."),
]
SkipCorrupt = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave corrupt images out instead of refusing them.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", help="ATM merges by the mean over a batch. Default: 100."),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16, float16 or auto (default: what suits here)."),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1 ...; auto is a GPU if there is one.")
]
Method = Annotated[
    str | None, typer.Option("--method", help="atm (default), tome, evit, diffrate, mctf, ats ...")
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="SQL store: a URL or an SQLite file. Default: ATM_SEARCH_STORAGE, else atm-search.db.",
    ),
]
Study = Annotated[str | None, typer.Option("--study", help="Name of the study.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def storage_address(given: str | None) -> str:
    """The address of the store: as given, else from the environment, else a file right here."""
    from atm_search.search.address import DEFAULT_STORAGE

    return given or os.environ.get("ATM_SEARCH_STORAGE") or DEFAULT_STORAGE

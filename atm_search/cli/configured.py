"""What commands that take a configuration file do alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from atm_search.deploy.configuration import Configuration
    from atm_search.measure.evaluator import Evaluator

File = Annotated[Path, typer.Argument(help="A YAML file that export or freeze wrote.")]
Images = Annotated[
    int | None,
    typer.Option("--images", help="Size of a class-balanced subset. Default: the file's."),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16, float16 or auto. Default: the file's."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Take other weights than those that were measured.")
]


@dataclass(frozen=True)
class Place:
    """Where a configuration is to run, as the command line says; None is as its file says."""

    checkpoint: Path | None
    data: Path | None
    images: int | None
    skip_corrupt: bool
    dtype: str | None
    device: str
    force: bool

    def evaluator(
        self, console: Console, file: Path, configuration: "Configuration"
    ) -> "Evaluator":
        """The configuration's model and images, to be measured in batches of its size."""
        from atm_search.cli.prepare import prepare
        from atm_search.deploy.load import load_configured_model
        from atm_search.measure.precision import loaded_as

        dtype = configuration.protocol.dtype if self.dtype is None else self.dtype
        model = load_configured_model(
            configuration,
            checkpoint=self.checkpoint,
            device=self.device,
            dtype=loaded_as(dtype),
            force=self.force,
        )
        if model.weights_digest != configuration.model.weights_sha256:
            console.print(f"Note: the figures in {file} are of other weights.", markup=False)
        folder = Path(configuration.data.source)
        return prepare(
            console,
            model,
            data=folder if self.data is None and folder.is_dir() else self.data,
            images=configuration.data.images if self.images is None else self.images,
            skip=(configuration.data.after or 0) if self.data is None else 0,
            skip_corrupt=self.skip_corrupt,
            batch_size=configuration.protocol.batch_size,
            dtype=dtype,
            need_labels=configuration.measurement.has_labels,
        )

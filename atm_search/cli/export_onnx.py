"""`atm-search export-onnx`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from atm_search.cli import options
from atm_search.cli.configured import File, Force

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The file to write. Default: FILE with .onnx."),
]


def export_onnx(
    file: File,
    output: Output = None,
    checkpoint: options.Checkpoint = None,
    force: Force = False,
    as_json: options.Json = False,
) -> None:
    """Write a frozen configuration as an ONNX model, in float32, for any batch size.

    Example: atm-search export-onnx frozen.yaml -o model.onnx
    """
    from atm_search.deploy.configuration import Configuration
    from atm_search.deploy.load import load_configured_model
    from atm_search.deploy.onnx import output_name, write_onnx
    from atm_search.show.consoles import log_console

    configuration = Configuration.read(file, refuse_edits=not force)
    model = load_configured_model(
        configuration, checkpoint=checkpoint, device="cpu", dtype="float32", force=force
    )
    path = output or file.with_suffix(".onnx")
    difference = write_onnx(configuration, model, path)
    name, width = output_name(model), model.num_classes or model.network.num_features
    log_console().print(
        f"Input    images, float32 [batch, {', '.join(map(str, model.preprocessing.input_size))}], "
        f"normalised\nOutput   {name}, float32 [batch, {width}]\n"
        f"Checked  ONNX Runtime gives PyTorch's {name} within {difference:.1g}",
        markup=False,
    )
    if as_json:
        print(json.dumps({"file": str(path), "largest_logit_difference": difference}, indent=2))
    else:
        print(path)

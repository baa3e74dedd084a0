"""A configuration as an ONNX file."""

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atm_search.deploy.configuration import Configuration
from atm_search.deploy.trace import export, fixed_counts
from atm_search.errors import ConfigurationError, InputError, MeasurementError, ModelError
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel

METADATA = "atm_search.configuration"
"""Key of the file's metadata that holds the configuration file's text."""

LARGEST_DIFFERENCE = 0.05
"""Of logits, relative to the largest; near ties may merge otherwise, a wrong graph is far off."""


def write_onnx(configuration: Configuration, model: LoadedModel, path: Path) -> float:
    """Write the model of a configuration as an ONNX file that takes any batch size.

    Input `images`, float32 [batch, 3, height, width], normalised; output `logits`, float32
    [batch, classes]. The file is run once to see that it answers as the model does.

    Args:
        configuration: of a method whose counts do not depend on the batch.
        model: its model, float32 on a CPU.
        path: to write; weights above 2 GB go to a second file beside it.

    Returns:
        The largest difference of a logit between ONNX Runtime and PyTorch.

    Raises:
        ConfigurationError: the method's counts depend on the batch, or the file cannot be written.
        ModelError: the network cannot be exported.
        MeasurementError: the exported model answers otherwise.
        InputError: the packages of the extra 'onnx' are not there.
    """
    method = configuration.build_method()
    fixed_counts(method, model.depth)  # refused before anything else is asked for
    _require_packages()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # before the minute that the export may take
        program = _translated(export(model, method), model)
        program.model.metadata_props[METADATA] = configuration.text()
        program.save(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    images = _noise(3, model)
    with torch.inference_mode():
        expected = run(model.network, method, images).logits
    return _compared(path, images, expected)


def write_dense_onnx(model: LoadedModel, path: Path) -> None:
    """Write the untouched model in the same way, to compare with."""
    _require_packages()
    _translated(export(model, None), model).save(path)


def output_name(model: LoadedModel) -> str:
    """What the ONNX model calls its output."""
    return "logits" if model.has_head else "feature"


def session(path: Path, *, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU; `threads` within an operation, None as many as cores."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    if threads is not None:
        settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def _require_packages() -> None:
    missing = [
        name
        for name in ("onnx", "onnxruntime", "onnxscript")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise InputError(
            f"ONNX needs an extra that is not installed ({', '.join(missing)}): "
            "pip install 'atm-search[onnx]'."
        )


def _translated(program: torch.export.ExportedProgram, model: LoadedModel) -> Any:
    """The graph in ONNX, optimised.

    Raises:
        ModelError: there is an operation that ONNX does not have.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            return torch.onnx.export(
                program,
                input_names=["images"],
                output_names=[output_name(model)],
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().split("\n")[0]
            raise ModelError(f"{model.name} cannot be written as ONNX: {reason}") from error


def _stable_sort(x: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """Sorted values and indices; ONNX's TopK takes the lower index first among equals."""
    from onnxscript import opset18 as op

    length = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    return op.TopK(x, length, axis=dim, largest=int(descending), sorted=1)


def _noise(batch: int, model: LoadedModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *model.preprocessing.input_size, generator=generator)


def _compared(path: Path, images: Tensor, expected: Tensor) -> float:
    """The largest difference of a logit, of a batch and of its first image alone."""
    runtime, largest = session(path), 0.0
    for count in (len(images), 1):
        [logits] = runtime.run(None, {"images": images[:count].numpy()})
        largest = max(largest, float((torch.from_numpy(logits) - expected[:count]).abs().max()))
    if not largest <= LARGEST_DIFFERENCE * float(expected.abs().max()):
        raise MeasurementError(
            f"{path} answers otherwise than the model: logits differ by up to {largest:.3g}. "
            "Do not use it; another version of torch or onnxruntime may help."
        )
    return largest

"""`atm-search evaluate`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atm_search.cli import options
from atm_search.errors import ParameterError

if TYPE_CHECKING:
    from atm_search.merging.method import Method
    from atm_search.models.zoo import LoadedModel

Tau0 = Annotated[float | None, typer.Option("--tau0", help="atm: similarity asked in block 1.")]
Alpha = Annotated[float | None, typer.Option("--alpha", help="atm: fall of the threshold, Eq. 1.")]
TauMin = Annotated[float | None, typer.Option("--tau-min", help="atm: least similarity asked.")]
Split = Annotated[int | None, typer.Option("--split", help="atm: split depth, 0 to the depth.")]
R = Annotated[int | None, typer.Option("--r", help="tome: tokens merged in every block.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any parameter of the method; may be repeated."
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="A YAML file that export wrote.")]
Dense = Annotated[bool, typer.Option("--dense", help="Measure the untouched model.")]


def evaluate(
    model: options.Model = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    images: options.Images = None,
    batch_size: options.BatchSize = None,
    config: Config = None,
    dense: Dense = False,
    method: options.Method = None,
    tau0: Tau0 = None,
    alpha: Alpha = None,
    tau_min: TauMin = None,
    split: Split = None,
    r: R = None,
    set_: Set = None,
    crop_pct: options.CropPct = None,
    skip_corrupt: options.SkipCorrupt = False,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure one configuration: its accuracy beside the dense model's, and what it costs.

    Example: atm-search evaluate --method evit --set keep_rate=0.7 --set fuse=false
    """
    from atm_search.cli.prepare import prepare
    from atm_search.show.consoles import log_console, result_console
    from atm_search.show.progress import progress
    from atm_search.show.tables import measurement_table, params_text

    params = {"tau0": tau0, "alpha": alpha, "tau_min": tau_min, "split_depth": split, "r": r}
    given = {name: value for name, value in params.items() if value is not None}
    if config is not None:
        _refuse(
            "--config",
            given,
            set=set_,
            dense=dense,
            method=method,
            model=model,
            crop_pct=crop_pct,
        )
        wanted = _of_file(config, checkpoint=checkpoint, dtype=dtype, device=device)
    else:
        if dense:
            _refuse("--dense", given, set=set_, method=method)
        wanted = _of_options(
            model,
            None if dense else (method or "atm"),
            _with_set(given, set_ or []),
            crop_pct=crop_pct,
            checkpoint=checkpoint,
            dtype=dtype,
            device=device,
        )
    console = log_console()
    evaluator = prepare(
        console,
        wanted.model,
        data=wanted.data if data is None else data,
        images=wanted.images if images is None and data in (None, wanted.data) else images,
        skip_corrupt=skip_corrupt,
        batch_size=wanted.batch_size if batch_size is None else batch_size,
        dtype=wanted.dtype,
    )
    if wanted.shard_digest not in (None, evaluator.shard.digest):
        console.print(f"Note: the figures in {config} were measured on other images.")
    with progress(console, "Measuring") as step:
        measurement = evaluator.measure(wanted.method, step)
    name = wanted.method.name if wanted.method else "dense"
    shown = wanted.method.params() if wanted.method else {}
    if as_json:
        about = {"model": wanted.model.name, "method": name, "params": shown}
        print(json.dumps(about | measurement.figures(), indent=2))
    else:
        title = " ".join([wanted.model.name, name, params_text(shown)])
        result_console().print(measurement_table(measurement, title=title))


@dataclass(frozen=True)
class _Wanted:
    """What is to be measured, and where a file says it was measured."""

    model: "LoadedModel"
    method: "Method | None"
    dtype: str
    data: Path | None = None
    images: int | None = None
    batch_size: int | None = None
    shard_digest: str | None = None


def _of_options(
    model: str | None,
    method: str | None,
    params: dict[str, Any],
    *,
    crop_pct: float | None,
    dtype: str | None,
    checkpoint: Path | None,
    device: str,
) -> _Wanted:
    """What the command line alone asks for; method None is the dense model."""
    from atm_search.measure.precision import AUTO, loaded_as
    from atm_search.merging.registry import build, method_class
    from atm_search.models.reduction import require_class_token
    from atm_search.models.zoo import DEMO, load_model

    dtype = AUTO if dtype is None else dtype
    if method is not None:
        build(method, params)  # refuse a wrong parameter before anything is loaded
    loaded = load_model(
        model or DEMO,
        checkpoint=checkpoint,
        crop_pct=crop_pct,
        device=device,
        dtype=loaded_as(dtype),
    )
    if method is None:
        return _Wanted(loaded, None, dtype)
    suits = loaded.prop_attn and method_class(method).prop_attn
    chosen = build(method, {"prop_attn": suits} | params)
    chosen.check(loaded.depth)
    require_class_token(loaded.network, chosen)
    return _Wanted(loaded, chosen, dtype)


def _with_set(given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Parameters with those that `--set` adds, their values read as in a YAML file.

    Raises:
        ParameterError: one is no assignment, or sets what is given already.
    """
    import yaml

    params = dict(given)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None
        if not (name and equals) or value is None:
            raise ParameterError(f"--set {assignment}: write NAME=VALUE, such as keep_rate=0.7.")
        if name in params:
            raise ParameterError(f"--set {assignment}: {name} is given already, {params[name]}.")
        params[name] = value
    return params


def _of_file(config: Path, *, dtype: str | None, checkpoint: Path | None, device: str) -> _Wanted:
    """What a configuration file asks for."""
    from atm_search.deploy.configuration import Configuration
    from atm_search.deploy.load import load_configured_model
    from atm_search.measure.precision import loaded_as

    file = Configuration.read(config)
    dtype = file.protocol.dtype if dtype is None else dtype
    folder = Path(file.data.source)
    return _Wanted(
        load_configured_model(file, checkpoint=checkpoint, device=device, dtype=loaded_as(dtype)),
        file.build_method(),
        dtype,
        data=folder if folder.is_dir() else None,
        images=file.data.images,
        batch_size=file.protocol.batch_size,
        shard_digest=file.data.sha256,
    )


def _refuse(option: str, params: dict[str, Any], **others: Any) -> None:
    """Refuse options that say again, perhaps otherwise, what `option` says."""
    excess = [*params, *(name for name, value in others.items() if value not in (None, False))]
    if excess:
        names = ", ".join("--" + name.replace("_", "-").replace("-depth", "") for name in excess)
        raise ParameterError(f"{option} already says what to measure: leave out {names}.")

"""`atm-search start`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atm_search.cli import options
from atm_search.errors import ParameterError, StoreError, StudyError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from atm_search.measure.evaluator import Evaluator
    from atm_search.models.zoo import LoadedModel
    from atm_search.search.identity import Identity
    from atm_search.search.objectives import Objectives
    from atm_search.search.space import Space
    from atm_search.search.start_points import StartPoints
    from atm_search.search.study import Study
    from atm_search.search.study_file import StudyFile
    from atm_search.search.worker import Outcome


File = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="A study file; what the command line says wins over it."),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials",
        help="Finished trials in total, those of earlier runs included. Default: 50; grid: all.",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="atm (default), tome, evit, diffrate, mctf, ats ...; tome,evit searches both at once.",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option("--sampler", help="auto (default), gp, tpe, nsga2, nsga3, qmc, grid or random."),
]
Step = Annotated[
    int | None, typer.Option("--step", help="grid: take every N-th value of each parameter.")
]
MaxDrop = Annotated[
    float | None,
    typer.Option("--max-drop", help="Look for configurations that lose no more top-1, in points."),
]
MaxGflops = Annotated[
    float | None,
    typer.Option("--max-gflops", help="Look for configurations that cost no more GFLOPs."),
]
Goals = Annotated[
    str | None,
    typer.Option(
        "--objectives",
        help="guided (default): search by KL, report top-1; top1,gflops; kl,gflops: no labels "
        "needed; or feature,gflops: no classifier head needed. Each also with ,latency.",
    ),
]
LatencyBatchSize = Annotated[
    int | None,
    typer.Option(
        "--latency-batch-size",
        help="Images per batch that latency is timed with. Default: --batch-size.",
    ),
]
NoRacing = Annotated[
    bool, typer.Option("--no-racing", help="Measure every configuration on all images.")
]
RaceOn = Annotated[
    str | None,
    typer.Option(
        "--race-on",
        help="Stop a trial that is dominated in top1, kl or feature, or off. Default: as searched.",
    ),
]
Delta = Annotated[
    float | None,
    typer.Option("--delta", help="Probability of stopping one that is not. Default: 0.05."),
]
Margin = Annotated[
    float | None,
    typer.Option(
        "--margin", help="Stop what is ahead by less: points of top-1, or % of KL. Default: 0."
    ),
]
Enqueue = Annotated[
    Path | None, typer.Option("--enqueue", help="A YAML list of configurations to measure first.")
]
Warm = Annotated[
    bool | None,
    typer.Option(
        "--warm-start/--no-warm-start",
        help="Begin at published configurations, with a third of the trials at most. Default: if "
        "there are any of the model, no start points are named and it is no grid.",
    ),
]
SpaceOf = Annotated[
    str | None,
    typer.Option(
        "--space", help="Thresholds of atm: eq1 (default), or layerwise, free in every block."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes on this machine. Default: one per GPU, else one."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Makes a search repeatable.")]

SPACES = {"eq1": "atm", "layerwise": "atm-layerwise"}
"""Methods that differ in the thresholds that ATM may have, by what `--space` calls them."""


def start(
    file: File = None,
    model: options.Model = None,
    trials: Trials = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    images: options.Images = None,
    batch_size: options.BatchSize = None,
    method: Methods = None,
    space: SpaceOf = None,
    objectives: Goals = None,
    latency_batch_size: LatencyBatchSize = None,
    sampler: Sampler = None,
    step: Step = None,
    seed: Seed = None,
    workers: Workers = None,
    max_drop: MaxDrop = None,
    max_gflops: MaxGflops = None,
    no_racing: NoRacing = False,
    race_on: RaceOn = None,
    delta: Delta = None,
    margin: Margin = None,
    enqueue: Enqueue = None,
    warm: Warm = None,
    storage: options.Storage = None,
    study: options.Study = None,
    crop_pct: options.CropPct = None,
    skip_corrupt: options.SkipCorrupt = False,
    dtype: options.Dtype = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Search the accuracy-GFLOPs frontier of a model; the same command continues a search.

    Example: atm-search start --model deit_b --data imagenet/val --trials 500
    """
    from atm_search.cli.racing import race_changes
    from atm_search.cli.workers import worker_count
    from atm_search.search.address import parse
    from atm_search.show.consoles import log_console

    address = options.storage_address(storage)
    parse(address)
    count = worker_count(workers, device)
    wanted = _wanted(
        file,
        study=study,
        model=model,
        checkpoint=checkpoint,
        data=data,
        method=method,
        objectives=objectives,
        trials=trials,
        sampler=sampler,
        step=step,
        seed=seed,
        images=images,
        batch_size=batch_size,
        latency_batch_size=latency_batch_size,
        crop_pct=crop_pct,
        dtype=dtype,
        max_drop=max_drop,
        max_gflops=max_gflops,
    )
    wanted = _in_space(wanted, space)
    points = wanted.start_points() if enqueue is None else _points(enqueue)
    racing = race_changes(no_racing=no_racing, race_on=race_on, delta=delta, margin=margin)
    console = log_console()
    wanted = _as_begun(wanted, address)
    _check_latency(wanted, count, device)
    evaluator = _evaluator(console, wanted, device=device, skip_corrupt=skip_corrupt)
    begun = _begin(
        console,
        evaluator,
        wanted,
        points,
        address,
        racing=racing,
        skip_corrupt=skip_corrupt,
        warm=warm,
    )
    if count == 1:
        outcome = _work(console, begun, evaluator)
    else:
        outcome = _supervise(console, begun, evaluator, wanted, address, count, device)
    _report(console, begun, outcome, as_json=as_json)


def _wanted(file: Path | None, **given: Any) -> "StudyFile":
    """What the file and the command line ask for; what can be refused before work begins, is."""
    from atm_search.search.objectives import Objectives
    from atm_search.search.samplers import resolve
    from atm_search.search.study_file import StudyFile

    wanted = (StudyFile() if file is None else StudyFile.read(file)).over(**given)
    resolve(
        wanted.sampler or "auto",
        1 if wanted.trials is None else wanted.trials,
        conditional=len(wanted.methods()) > 1,
    )
    wanted.limits()
    if wanted.objectives is not None:
        Objectives.parse(wanted.objectives)
    return wanted


def _in_space(wanted: "StudyFile", space: str | None) -> "StudyFile":
    """With the method that has the thresholds asked for.

    Raises:
        ParameterError: there are none of that name, or the method has no thresholds to choose.
    """
    from atm_search.search.identity import SEPARATOR

    if space is None:
        return wanted
    if space not in SPACES:
        raise ParameterError(f"No space '{space}'. Known: {', '.join(SPACES)}.")
    methods = wanted.methods()
    if not set(methods) & set(SPACES.values()):
        raise ParameterError(f"--space {space} is of atm: leave it out for {', '.join(methods)}.")
    named = [SPACES[space] if name in SPACES.values() else name for name in methods]
    return wanted.over(method=SEPARATOR.join(named))


def _points(file: Path) -> "StartPoints":
    from atm_search.search.start_points import StartPoints

    return StartPoints.read(file)


def _name(wanted: "StudyFile") -> str:
    """The study's name in the store."""
    from atm_search.models.zoo import DEMO

    return wanted.study or wanted.model or DEMO


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _evaluator(
    console: "Console",
    wanted: "StudyFile",
    *,
    device: str,
    skip_corrupt: bool,
) -> "Evaluator":
    """The model and the images that are asked for."""
    from atm_search.cli.prepare import prepare
    from atm_search.measure.precision import AUTO, loaded_as
    from atm_search.merging.registry import method_class
    from atm_search.models.reduction import require_class_token
    from atm_search.models.zoo import DEMO, load_model

    dtype = wanted.protocol.dtype or AUTO
    loaded = load_model(
        wanted.model or DEMO,
        checkpoint=_path(wanted.checkpoint),
        crop_pct=wanted.protocol.crop_pct,
        device=device,
        dtype=loaded_as(dtype),
        headless=_objectives(wanted).headless,
    )
    _objectives(wanted).require_head(loaded.name, has_head=loaded.has_head)
    for name in wanted.methods():
        require_class_token(loaded.network, method_class(name))
    wanted.budget(_space(loaded, wanted))  # refuses what it has to before the work begins
    return prepare(
        console,
        loaded,
        data=_path(wanted.data),
        images=wanted.protocol.images,
        skip_corrupt=skip_corrupt,
        batch_size=wanted.protocol.batch_size,
        dtype=dtype,
        need_labels=_objectives(wanted).needs_labels,
    )


def _objectives(wanted: "StudyFile") -> "Objectives":
    from atm_search.search.objectives import GUIDED, Objectives

    return GUIDED if wanted.objectives is None else Objectives.parse(wanted.objectives)


def _check_latency(wanted: "StudyFile", count: int, device: str) -> None:
    """Refuse what latency cannot be timed with, or what is asked of it where nobody times it."""
    from atm_search.cli.workers import require_own_devices

    if _objectives(wanted).latency:
        require_own_devices(count, device)
    elif wanted.protocol.latency_batch_size is not None:
        raise ParameterError(
            f"latency_batch_size={wanted.protocol.latency_batch_size} goes with latency as an "
            f"objective, such as --objectives {_objectives(wanted)},latency."
        )


def _as_begun(wanted: "StudyFile", address: str) -> "StudyFile":
    """With what a study that is there already has chosen, once and for all, where nobody asks."""
    from atm_search.measure.precision import AUTO

    begun = _identity_of_study(address, _name(wanted))
    if begun is None:
        return wanted
    if (wanted.protocol.dtype or AUTO) == AUTO:
        wanted = wanted.over(dtype=begun.protocol["dtype"])
    wanted = wanted.over(objectives=wanted.objectives or str(begun.objectives))
    if _objectives(wanted).latency and wanted.protocol.latency_batch_size is None:
        own = begun.protocol.get("latency", {}).get("batch_size")
        wanted = wanted.over(latency_batch_size=own)
    return wanted


def _identity_of_study(address: str, name: str) -> "Identity | None":
    """What a study that is there already fixes.

    None also if the store refuses: that is said when the study is begun.
    """
    from atm_search.search.store import open_store
    from atm_search.search.study import load, names

    try:
        store = open_store(address, create=False)
        try:
            return load(store, name).identity if name in names(store) else None
        finally:
            store.engine.dispose()
    except (StoreError, StudyError):
        return None


def _begin(
    console: "Console",
    evaluator: "Evaluator",
    wanted: "StudyFile",
    points: "StartPoints | None",
    address: str,
    *,
    racing: dict[str, Any],
    skip_corrupt: bool,
    warm: bool | None,
) -> "Study":
    """The study in its store, new or resumed, with its start points queued."""
    from atm_search.cli.prepare import measure_dense
    from atm_search.measure.stopwatch import Stopwatch
    from atm_search.search.dense import Dense
    from atm_search.search.samplers import resolve
    from atm_search.search.start_points import queue
    from atm_search.search.store import open_store
    from atm_search.search.study import create_or_resume
    from atm_search.show.tables import dense_text
    from atm_search.show.trials import racing_text

    def dense() -> Dense:
        answers = measure_dense(console, evaluator)
        timed = identity.protocol.get("latency")
        return Dense(
            images=len(evaluator.shard),
            top1_hits=_count(answers.top1_hit),
            top5_hits=_count(answers.top5_hit),
            gflops=evaluator.dense_gflops,
            latency_ms=None
            if timed is None
            else Stopwatch(
                evaluator.model, evaluator.shard, batch_size=timed["batch_size"]
            ).dense_ms,
        )

    identity = _identity(evaluator, wanted)
    first = [] if points is None else points.checked(identity)
    budget = wanted.budget(identity.space)
    begun = create_or_resume(
        open_store(address, create=True),  # last: a refusal before leaves no file behind
        _name(wanted),
        identity=identity,
        dense=dense,
        budget=budget,
        sampler=wanted.sampler,
        seed=wanted.seed,
        step=wanted.step,
        racing=racing,
        hints={
            "weights": evaluator.model.weights_source,
            "data": evaluator.shard.source,
            "images": wanted.protocol.images,
            "skip_corrupt": skip_corrupt,
        },
    )
    console.print(
        f"Study    {begun.name}, {begun.plan.budget} trials, sampler "
        f"{resolve(begun.plan.sampler, begun.plan.budget, conditional=identity.is_conditional)}, "
        f"seed {begun.plan.seed}\n"
        f"Optimise {begun.objectives.in_words()}\n"
        f"Dense    {dense_text(begun.dense)}\n"
        f"Racing   {racing_text(begun.plan.racing)}"
    )
    if begun.dense.is_guessing(evaluator.model.num_classes):
        console.print(
            f"Note     the dense model is right on {begun.dense.top1_hits:,} images, as if it "
            "guessed: are these labels those of its classes? --objectives kl,gflops needs none.",
            soft_wrap=True,
        )
    is_new = not begun.optuna.get_trials(deepcopy=False)
    if queued := queue(begun, first):
        console.print(f"Queued   {queued} start points")
    unless = points is not None or begun.plan.sampler == "grid"
    if is_new and (warm or (warm is None and not unless)):
        _warm_start(console, begun, wanted, asked=warm is not None)
    return begun


def _warm_start(console: "Console", begun: "Study", wanted: "StudyFile", *, asked: bool) -> None:
    """Queue what is known to be good; if somebody asked for it, say that there is none."""
    from atm_search.search.start_points import queue
    from atm_search.search.warm_start import warm_start
    from atm_search.show.published import published
    from atm_search.show.trials import warm_start_text

    known = warm_start(begun, wanted.published or published(begun.identity.model))
    points = [] if known is None else [dict(p) for p in known.within(begun.plan.budget)]
    queued = queue(begun, points)
    if known is not None and (queued or asked):
        console.print(warm_start_text(known, queued), soft_wrap=True)
    elif asked:
        console.print(f"Queued   nothing: no configuration of {begun.identity.method} is published")


def _work(console: "Console", begun: "Study", evaluator: "Evaluator") -> "Outcome":
    """Run the trials in this process."""
    from atm_search.cli.prepare import work
    from atm_search.show.board import trial_progress

    with trial_progress(console, begun) as (on_trial, on_wait):
        return work(console, begun, evaluator, worker=0, on_trial=on_trial, on_wait=on_wait)


def _supervise(
    console: "Console",
    begun: "Study",
    evaluator: "Evaluator",
    wanted: "StudyFile",
    address: str,
    count: int,
    device: str,
) -> "Outcome":
    """Run the trials in so many worker processes."""
    from atm_search.cli.prepare import measure_dense
    from atm_search.cli.workers import worker_commands
    from atm_search.search.supervisor import supervise
    from atm_search.show.board import trial_progress

    if sum(record.measured for record in begun.records()) < begun.plan.budget:
        measure_dense(console, evaluator)  # once here, on all cores, and not in every worker
    commands = worker_commands(
        count,
        address=address,
        study=begun.name,
        checkpoint=_path(wanted.checkpoint),
        data=_path(wanted.data),
        device=device,
    )
    console.print(f"Workers  {count} processes")
    with trial_progress(console, begun, works_here=False) as (on_trial, on_wait):
        return supervise(
            begun,
            commands,
            on_trial=on_trial,
            on_wait=on_wait,
            on_note=lambda note: console.print(note, markup=False, soft_wrap=True),
        )


def _report(console: "Console", begun: "Study", outcome: "Outcome", *, as_json: bool) -> None:
    """Print the frontier, and how the search ended.

    Raises:
        Exit: it was interrupted.
    """
    from atm_search.show.consoles import result_console
    from atm_search.show.frontier import frontier_summary, frontier_table

    records = begun.records()
    if as_json:
        print(json.dumps(frontier_summary(begun, records), indent=2))
    else:
        results = result_console()
        results.print(frontier_table(begun, records, width=results.width))
    if outcome.exhausted:
        swept = "grid" if begun.plan.sampler == "grid" else "space"
        console.print(f"All of the {swept} is measured after {outcome.done} trials.")
    if outcome.interrupted:
        console.print(
            f"Interrupted after {outcome.done} of {outcome.total} trials; the same "
            "command continues."
        )
        raise typer.Exit(130)


def _identity(evaluator: "Evaluator", wanted: "StudyFile") -> "Identity":
    """What the search's trials will be measured on, and how."""
    from atm_search.cli.prepare import measured_on
    from atm_search.merging.registry import method_class
    from atm_search.search.identity import SEPARATOR, Identity

    space = _space(evaluator.model, wanted)
    fixed: dict[str, Any] = {}
    for name in wanted.methods():
        searched = method_class(name)
        own = searched.defaults()
        own["prop_attn"] = evaluator.model.prop_attn and searched.prop_attn
        if space.methods:  # lossless and worth 5 %: on for all, or none could be compared
            own["cls_only_last_block"] = True
        fixed |= space.named(name, own)
    objectives = _objectives(wanted)
    timed = wanted.protocol.latency_batch_size
    if timed is None:
        timed = min(evaluator.batch_size, len(evaluator.shard))
    return Identity(
        **measured_on(evaluator, latency_batch_size=timed if objectives.latency else None),
        method=SEPARATOR.join(wanted.methods()),
        fixed_params=fixed,
        space=space,
        constraints=wanted.limits(),
        objectives=objectives,
    )


def _count(hits: "Tensor | None") -> int | None:
    return None if hits is None else int(hits.sum())


def _space(model: "LoadedModel", wanted: "StudyFile") -> "Space":
    """What is searched: the methods' own ranges in this model, as far as the file leaves them."""
    from atm_search.merging.registry import method_class
    from atm_search.search.space import Space

    own = {name: method_class(name).space(model.depth) for name in wanted.methods()}
    return wanted.ranges(Space.of(own))

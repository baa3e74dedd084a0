"""`atm-search start`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options

if TYPE_CHECKING:
    from atm_search.measure.evaluator import Evaluator
    from atm_search.search.identity import Identity
    from atm_search.search.study_file import StudyFile


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
Enqueue = Annotated[
    Path | None, typer.Option("--enqueue", help="A YAML list of configurations to measure first.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes on this machine. Default: one per GPU, else one."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Makes a search repeatable.")]


def start(
    file: File = None,
    model: options.Model = None,
    trials: Trials = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    images: options.Images = None,
    batch_size: options.BatchSize = None,
    method: options.Method = None,
    sampler: Sampler = None,
    step: Step = None,
    seed: Seed = None,
    workers: Workers = None,
    max_drop: MaxDrop = None,
    max_gflops: MaxGflops = None,
    enqueue: Enqueue = None,
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
    from atm_search.cli.prepare import measure_dense, prepare, work
    from atm_search.cli.workers import worker_commands, worker_count
    from atm_search.models.zoo import DEMO, load_model
    from atm_search.search.address import parse
    from atm_search.search.dense import Dense
    from atm_search.search.samplers import resolve
    from atm_search.search.start_points import StartPoints, queue
    from atm_search.search.store import open_store
    from atm_search.search.study import create_or_resume
    from atm_search.search.study_file import StudyFile
    from atm_search.search.supervisor import supervise
    from atm_search.show.consoles import log_console, result_console
    from atm_search.show.frontier import frontier_summary, frontier_table
    from atm_search.show.trials import trial_progress

    address = options.storage_address(storage)
    parse(address)
    count = worker_count(workers, device)
    wanted = StudyFile() if file is None else StudyFile.read(file)
    wanted = wanted.over(
        study=study,
        model=model,
        checkpoint=checkpoint,
        data=data,
        method=method,
        trials=trials,
        sampler=sampler,
        step=step,
        seed=seed,
        images=images,
        batch_size=batch_size,
        crop_pct=crop_pct,
        dtype=dtype,
        max_drop=max_drop,
        max_gflops=max_gflops,
    )
    resolve(wanted.sampler or "auto", 1 if wanted.trials is None else wanted.trials)
    wanted.limits()
    points = wanted.start_points() if enqueue is None else StartPoints.read(enqueue)
    checkpoint = None if wanted.checkpoint is None else Path(wanted.checkpoint)
    data = None if wanted.data is None else Path(wanted.data)
    loaded = load_model(
        wanted.model or DEMO,
        checkpoint=checkpoint,
        crop_pct=wanted.protocol.crop_pct,
        device=device,
        dtype=wanted.protocol.dtype or "float32",
    )
    console = log_console()
    evaluator = prepare(
        console,
        loaded,
        data=data,
        images=wanted.protocol.images,
        skip_corrupt=skip_corrupt,
        batch_size=wanted.protocol.batch_size,
    )

    def dense() -> Dense:
        answers = measure_dense(console, evaluator)
        return Dense(
            images=len(evaluator.shard),
            top1_hits=int(answers.top1_hit.sum()),
            top5_hits=int(answers.top5_hit.sum()),
            gflops=evaluator.dense_gflops,
        )

    identity = _identity(evaluator, wanted)
    first = [] if points is None else points.checked(identity)
    budget = wanted.budget(identity.space)
    begun = create_or_resume(
        open_store(address, create=True),  # last: a refusal before leaves no file behind
        wanted.study or wanted.model or DEMO,
        identity=identity,
        dense=dense,
        budget=budget,
        sampler=wanted.sampler,
        seed=wanted.seed,
        step=wanted.step,
        hints={
            "weights": loaded.weights_source,
            "data": evaluator.shard.source,
            "images": wanted.protocol.images,
            "skip_corrupt": skip_corrupt,
        },
    )
    console.print(
        f"Study    {begun.name}, {begun.plan.budget} trials, sampler "
        f"{resolve(begun.plan.sampler, begun.plan.budget)}, seed {begun.plan.seed}\n"
        f"Dense    top-1 {begun.dense.top1:.2f} %, {begun.dense.gflops:.4f} GFLOPs"
    )
    if queued := queue(begun, first):
        console.print(f"Queued   {queued} start points")
    if count == 1:
        with trial_progress(console) as (on_trial, on_wait):
            outcome = work(console, begun, evaluator, worker=0, on_trial=on_trial, on_wait=on_wait)
    else:
        commands = worker_commands(
            count,
            address=address,
            study=begun.name,
            checkpoint=checkpoint,
            data=data,
            device=device,
        )
        console.print(f"Workers  {count} processes")
        with trial_progress(console, waiting="{running} running") as (
            on_trial,
            on_wait,
        ):
            outcome = supervise(
                begun,
                commands,
                on_trial=on_trial,
                on_wait=on_wait,
                on_note=lambda note: console.print(note, markup=False, soft_wrap=True),
            )
    records = begun.records()
    if as_json:
        print(json.dumps(frontier_summary(begun, records), indent=2))
    else:
        result_console().print(frontier_table(begun, records))
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
    from atm_search.search.identity import Identity

    method = wanted.method or "atm"
    searched = method_class(method)
    return Identity(
        **measured_on(evaluator),
        method=method,
        fixed_params=searched.defaults()
        | {"prop_attn": evaluator.model.prop_attn and searched.prop_attn},
        space=wanted.ranges(searched.space(evaluator.model.depth)),
        constraints=wanted.limits(),
    )

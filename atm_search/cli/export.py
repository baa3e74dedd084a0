"""`atm-search export`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options
from atm_search.errors import ParameterError

if TYPE_CHECKING:
    from atm_search.deploy.configuration import Configuration
    from atm_search.deploy.sections import ConfirmationSection, PickSection
    from atm_search.search.picks import Rule
    from atm_search.search.study import Study
    from atm_search.search.trials import Confirmation, TrialRecord

Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="Folder to write to, or for one configuration a .yaml."),
]
PickBy = Annotated[
    str,
    typer.Option(
        "--pick",
        help="lossless, knee, budget:GFLOPS, latency:MS, drop:POINTS, trial:NUMBER or frontier "
        "(all).",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option("--tolerance", help="lossless: points of top-1 that may be lost. Default: 0.2."),
]


def export(
    storage: options.Storage = None,
    study: options.Study = None,
    output: Output = Path("frontier"),
    pick: PickBy = "frontier",
    tolerance: Tolerance = None,
) -> None:
    """Write configurations as YAML files, ready to deploy: all of the frontier, or one by a rule.

    Example: atm-search export --study deit_t --pick lossless -o best.yaml
    """
    from atm_search.deploy.sections import PickSection
    from atm_search.search.frontier import frontier, measured_points
    from atm_search.search.judged import judged
    from atm_search.search.picks import TOLERANCE, Rule
    from atm_search.search.picks import pick as picked
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.consoles import log_console

    rule = Rule.parse(pick)
    if tolerance is not None and rule.name != "lossless":
        raise ParameterError(f"--tolerance goes with --pick lossless, not with {rule}.")
    one_file = output.suffix in (".yaml", ".yml")
    if one_file and rule.name == "frontier":
        raise ParameterError(f"{output} is one file: say which configuration with --pick.")
    found = load(open_store(options.storage_address(storage), create=False), study)
    records = {record.number: record for record in found.records()}
    best = frontier(records.values(), found.dense, found.objectives)
    candidates = judged(best, found.objectives)
    judged_on = candidates.on if rule.is_choice else None
    measured = measured_points(records.values(), found.dense)
    if judged_on is not None:
        log_console().print(f"Judged by {judged_on}.", markup=False, soft_wrap=True)
    chosen = picked(
        _of_first(rule, records),
        candidates.points if rule.is_choice else best,
        measured=measured,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        objectives=found.objectives,
    )
    for choice in chosen:
        configuration = _configuration(
            found,
            records[choice.point.number],
            PickSection(rule=str(choice.rule), reason=choice.reason, judged_by=judged_on),
        )
        path = output if one_file else output / _file_name(configuration)
        configuration.write(path)
        print(path)


def _of_first(rule: "Rule", records: Mapping[int, "TrialRecord"]) -> "Rule":
    """A rule for a trial that repeats another, as one for the trial that was measured."""
    if rule.name != "trial" or rule.value is None:
        return rule
    record = records.get(int(rule.value))
    first = None if record is None else record.reused_from
    return rule if first is None else replace(rule, value=float(first))


def _file_name(configuration: "Configuration") -> str:
    study = configuration.study
    assert study is not None
    name = re.sub(r"[^\w.-]+", "_", study.name)
    return f"{name}-{configuration.measurement.gflops:.3f}gflops-trial{study.trial}.yaml"


def _configuration(study: "Study", record: "TrialRecord", pick: "PickSection") -> "Configuration":
    """What a study knows of one of its measured trials."""
    from atm_search.deploy.configuration import Configuration
    from atm_search.deploy.sections import (
        DataSection,
        MethodSection,
        ModelSection,
        ProtocolSection,
        StudySection,
    )
    from atm_search.models.preprocessing import Preprocessing

    identity, hints = study.identity, study.plan.hints
    assert record.environment is not None  # the trial was measured
    assert record.method is not None
    assert record.measurement is not None
    return Configuration(
        pick=pick,
        model=ModelSection(
            name=identity.model,
            weights_sha256=identity.weights_digest,
            weights_source=hints["weights"],
            preprocessing=Preprocessing.from_config(identity.protocol["preprocessing"]),
            headless=study.objectives.headless or None,
        ),
        method=MethodSection(name=record.method, params=dict(record.params)),
        protocol=ProtocolSection(
            batch_size=identity.protocol["batch_size"],
            dtype=identity.protocol["dtype"],
            device=record.environment.device,
        ),
        data=DataSection(
            sha256=identity.shard_digest, source=hints["data"], images=identity.images
        ),
        measurement=record.measurement,
        confirmation=None if record.confirmation is None else _confirmed(record.confirmation),
        versions=dict(record.environment.versions),
        study=StudySection(name=study.name, trial=record.number, objectives=str(study.objectives)),
    )


def _confirmed(confirmation: "Confirmation") -> "ConfirmationSection":
    from atm_search.deploy.sections import ConfirmationSection, DataSection

    return ConfirmationSection(
        data=DataSection(
            sha256=confirmation.shard_digest,
            source=confirmation.source,
            images=confirmation.measurement.images,
            after=confirmation.after or None,
        ),
        device=confirmation.environment.device,
        measurement=confirmation.measurement,
        versions=dict(confirmation.environment.versions),
    )

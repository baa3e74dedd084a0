"""`atm-search export`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options
from atm_search.errors import StudyError

if TYPE_CHECKING:
    from atm_search.deploy.configuration import Configuration
    from atm_search.search.study import Study
    from atm_search.search.trials import TrialRecord

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write the files to.")]
Trial = Annotated[
    int | None, typer.Option("--trial", help="Export this trial only, on the frontier or not.")
]


def export(
    storage: options.Storage = None,
    study: options.Study = None,
    output: Output = Path("frontier"),
    trial: Trial = None,
) -> None:
    """Write a YAML file for every configuration of the frontier, ready to deploy.

    Example: atm-search export --study deit_t -o frontier
    """
    from atm_search.search.frontier import frontier
    from atm_search.search.store import open_store
    from atm_search.search.study import load

    found = load(open_store(options.storage_address(storage), create=False), study)
    records = {record.number: record for record in found.records()}
    if trial is None:
        wanted = [point.number for point in frontier(records.values(), found.dense)]
        if not wanted:
            raise StudyError(f"Study '{found.name}' has no finished trial to export yet.")
    elif trial in records and records[trial].measured:
        wanted = [trial]
    else:
        state = "did not finish" if trial in records else "does not exist"
        raise StudyError(f"Trial {trial} of study '{found.name}' {state}: nothing to export.")
    for number in wanted:
        configuration = _configuration(found, records[number])
        name = re.sub(r"[^\w.-]+", "_", found.name)
        path = output / f"{name}-{configuration.measurement.gflops:.3f}gflops-trial{number}.yaml"
        configuration.write(path)
        print(path)


def _configuration(study: "Study", record: "TrialRecord") -> "Configuration":
    """What a study knows of one of its measured trials."""
    from atm_search.deploy.configuration import (
        Configuration,
        DataSection,
        MethodSection,
        ModelSection,
        ProtocolSection,
        StudySection,
    )
    from atm_search.models.preprocessing import Preprocessing

    identity, hints = study.identity, study.plan.hints
    assert record.measurement is not None  # the caller chose a measured trial
    assert record.environment is not None
    return Configuration(
        model=ModelSection(
            name=identity.model,
            weights_sha256=identity.weights_digest,
            weights_source=hints["weights"],
            preprocessing=Preprocessing.from_config(identity.protocol["preprocessing"]),
        ),
        method=MethodSection(name=identity.method, params=dict(record.params)),
        protocol=ProtocolSection(
            batch_size=identity.protocol["batch_size"],
            dtype=identity.protocol["dtype"],
            device=record.environment.device,
        ),
        data=DataSection(
            sha256=identity.shard_digest, source=hints["data"], images=identity.images
        ),
        measurement=record.measurement,
        versions=dict(record.environment.versions),
        study=StudySection(name=study.name, trial=record.number),
    )

"""A configuration of the tiny model, measured, and its file."""

from dataclasses import replace
from pathlib import Path

import pytest

from atm_search.data.shard import Shard
from atm_search.deploy.configuration import Configuration
from atm_search.deploy.sections import (
    ConfirmationSection,
    DataSection,
    MethodSection,
    ModelSection,
    ProtocolSection,
    StudySection,
)
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.provenance import device_name, versions
from atm_search.merging.atm import Atm
from atm_search.models.zoo import LoadedModel

METHOD = Atm(tau0=0.95, alpha=0.05, tau_min=0.6, split_depth=3)


@pytest.fixture(scope="session")
def evaluator(tiny_model: LoadedModel, tiny_shard: Shard) -> Evaluator:
    return Evaluator(tiny_model, tiny_shard, batch_size=16)


@pytest.fixture(scope="session")
def configuration(evaluator: Evaluator) -> Configuration:
    model, shard = evaluator.model, evaluator.shard
    return Configuration(
        model=ModelSection(
            name=model.name,
            weights_sha256=model.weights_digest,
            weights_source=model.weights_source,
            preprocessing=model.preprocessing,
        ),
        method=MethodSection(name=METHOD.name, params=METHOD.params()),
        protocol=ProtocolSection(batch_size=16, dtype="float32", device=device_name(model.device)),
        data=DataSection(sha256=shard.digest, source="noise", images=len(shard)),
        measurement=evaluator.measure(METHOD),
        versions=versions(),
        study=StudySection(name="test", trial=3),
    )


@pytest.fixture(scope="session")
def confirmed(configuration: Configuration, evaluator: Evaluator) -> Configuration:
    """The same, with the figures of its last 20 images as if the search had not used them."""
    shard = evaluator.shard
    others = replace(
        shard, images=shard.images[30:], labels=shard.labels[30:], names=shard.names[30:]
    )
    found = ConfirmationSection(
        data=DataSection(sha256="cd" * 32, source="noise", images=20, after=30),
        device=configuration.protocol.device,
        measurement=Evaluator(evaluator.model, others, batch_size=16).measure(METHOD),
        versions=versions(),
    )
    return configuration.model_copy(update={"confirmation": found}).with_derived()


@pytest.fixture
def path(configuration: Configuration, tmp_path: Path) -> Path:
    path = tmp_path / "best.yaml"
    configuration.write(path)
    return path

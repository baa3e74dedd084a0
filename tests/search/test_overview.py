"""What a store holds, in a few numbers."""

from collections.abc import Callable
from datetime import datetime, timedelta
from types import ModuleType

import optuna
from optuna.storages import RDBStorage

from atm_search.errors import MeasurementError
from atm_search.measure.measurement import Measurement
from atm_search.merging.method import Method
from atm_search.search.overview import Overview, overview
from atm_search.search.study import Study
from atm_search.search.worker import run


def test_studies_are_listed_with_what_they_hold(
    begin: Callable[..., Study], storage: RDBStorage, stub: ModuleType
) -> None:
    failures = iter([MeasurementError("not finite")])

    def measure(method: Method, race: object = None) -> Measurement:
        for error in failures:
            raise error
        return stub.measurement(1.0, 700)

    assert overview(storage) == []
    run(begin("first", budget=3), measure, environment=stub.ENVIRONMENT)
    begin("second", budget=7)
    optuna.create_study(storage=storage, study_name="theirs").add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    first, second, theirs = overview(storage)
    common = {"model": "deit_tiny_patch16_224", "method": "atm", "images": 1000}
    assert second == Overview(name="second", budget=7, **common)
    assert first.last_activity is not None
    assert datetime.now() - first.last_activity < timedelta(minutes=1)
    assert first == Overview(
        name="first",
        done=3,
        budget=3,
        failed=1,
        frontier=1,
        last_activity=first.last_activity,
        **common,
    )
    assert theirs.name == "theirs"
    assert "was not made by atm-search" in str(theirs.problem)

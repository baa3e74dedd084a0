import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.errors import ParameterError
from atm_search.merging.schedule import count_schedule, threshold_schedule

# methods.md, section 6: the published DeiT-S operating point, worked out by hand.
PUBLISHED = (0.985, 0.939, 0.891, 0.88, 0.88)


def test_threshold_schedule_gives_the_published_thresholds() -> None:
    thresholds = threshold_schedule(0.985, 0.045, 0.88, depth=12)
    assert [round(tau, 3) for tau in thresholds[:5]] == list(PUBLISHED)
    assert set(thresholds[3:]) == {0.88}


@given(
    tau0=st.floats(0.5, 1.0),
    alpha=st.floats(0.0, 0.1),
    share=st.floats(0.1, 1.0),
    depth=st.integers(1, 24),
)
def test_thresholds_fall_from_tau0_to_tau_min(
    tau0: float, alpha: float, share: float, depth: int
) -> None:
    tau_min = tau0 * share
    thresholds = threshold_schedule(tau0, alpha, tau_min, depth=depth)
    assert len(thresholds) == depth
    assert thresholds[0] == tau0
    assert all(a >= b for a, b in itertools.pairwise(thresholds))
    assert min(thresholds) >= tau_min
    for block, tau in enumerate(thresholds):
        assert math.isclose(tau, max(tau0 - (math.exp(alpha * block) - 1), tau_min))


@pytest.mark.parametrize(
    ("tau0", "alpha", "tau_min", "words"),
    [
        (1.2, 0.02, 0.9, "tau0=1.2"),
        (0.0, 0.02, 0.0, "tau0=0.0"),
        (0.95, -0.01, 0.9, "alpha=-0.01"),
        (0.95, 0.02, 0.99, "tau_min=0.99 is above tau0=0.95"),
        (0.95, 0.02, -0.1, "tau_min=-0.1"),
        (float("nan"), 0.02, 0.9, "tau0=nan"),
        (0.95, 0.02, float("nan"), "tau_min=nan"),
    ],
)
def test_threshold_schedule_refuses_a_broken_rule_with_its_value(
    tau0: float, alpha: float, tau_min: float, words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        threshold_schedule(tau0, alpha, tau_min, depth=12)


def test_count_schedule_is_constant_rising_or_falling() -> None:
    assert count_schedule(13, depth=12) == (13,) * 12
    rising = count_schedule(10, inflection=1.0, depth=11)
    assert rising == tuple(range(0, 21, 2))
    assert count_schedule(10, inflection=-1.0, depth=11) == rising[::-1]


def test_count_schedule_refuses_a_negative_count() -> None:
    with pytest.raises(ParameterError, match="r=-1"):
        count_schedule(-1, depth=12)

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.measure.statistics import paired_change, paired_interval95


def test_paired_interval_agrees_with_a_hand_calculation() -> None:
    # 1,000 images, 30 lost, 20 gained: p = 31/1002 and 21/1002, difference -10/1002.
    half = 1.959964 * math.sqrt((52 / 1002 - (10 / 1002) ** 2) / 1002)
    low, high = paired_interval95(30, 20, 1000)
    assert low == pytest.approx(100 * (-10 / 1002 - half), abs=1e-4)
    assert high == pytest.approx(100 * (-10 / 1002 + half), abs=1e-4)


def test_paired_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    for p_lost, p_gained in ((0.03, 0.02), (0.10, 0.01), (0.01, 0.01)):
        truth = 100 * (p_gained - p_lost)
        draws = rng.multinomial(500, [p_lost, p_gained, 1 - p_lost - p_gained], size=2000)
        inside = 0
        for lost, gained, _ in draws:
            low, high = paired_interval95(int(lost), int(gained), 500)
            inside += low <= truth <= high
        assert 0.93 <= inside / 2000 <= 0.985


@given(st.integers(1, 10_000), st.data())
def test_paired_interval_holds_the_change_and_turns_with_the_roles(
    images: int, data: st.DataObject
) -> None:
    lost = data.draw(st.integers(0, images))
    gained = data.draw(st.integers(0, images - lost))
    low, high = paired_interval95(lost, gained, images)
    shrunk = paired_change(lost, gained, images) * images / (images + 2)
    assert low < shrunk < high
    swapped = paired_interval95(gained, lost, images)
    assert swapped == pytest.approx((-high, -low))
    if lost + gained == 0:
        assert low < 0.0 < high  # no discordant pair is not certainty

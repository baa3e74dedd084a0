"""Outcomes image by image: kept without loss, refused when damaged."""

import numpy as np
import pytest

from atm_search.errors import InputError
from atm_search.measure.outcomes import NONE, Outcomes


@pytest.mark.parametrize("images", [0, 1, 8, 1001])
def test_outcomes_come_back_equal(images: int) -> None:
    rng = np.random.default_rng(images)
    kept = Outcomes.of(rng.random(images) < 0.8, rng.random(images), rng.random(images // 100 + 1))
    again = Outcomes.from_text(kept.to_text())
    for name in ("hits", "distances", "gflops"):
        ours, theirs = getattr(kept, name), getattr(again, name)
        assert ours.dtype == theirs.dtype
        assert (ours == theirs).all()
    assert len(again) == images


def test_a_thousand_images_take_a_few_kilobytes() -> None:
    rng = np.random.default_rng(0)
    kept = Outcomes.of(rng.random(1000) < 0.8, rng.lognormal(-5, 1.5, 1000), rng.random(10))
    assert len(kept.to_text()) < 4096


def test_batches_follow_one_another() -> None:
    first, second = Outcomes.of([True], [0.5], [1.0]), Outcomes.of([False, True], [0, 0], [2.0])
    both = NONE.followed_by(first).followed_by(second)
    assert both.hits.tolist() == [True, False, True]
    assert both.gflops.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("damage", ["", "no base64!", "AAAA", None])
def test_damaged_text_is_refused(damage: str | None) -> None:
    text = Outcomes.of([True], [0.5], [1.0]).to_text()
    with pytest.raises(InputError, match="damaged"):
        Outcomes.from_text(text[:-8] if damage is None else damage)

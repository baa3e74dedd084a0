"""The fixed schedule: counts as given, whatever the batch; and what is no schedule."""

import pytest
import torch

from atm_search.errors import ParameterError
from atm_search.merging.fixed import Fixed
from atm_search.merging.registry import build
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel

SCHEDULE = Fixed(r=(5, 0, 30, 12, 7, 0), split_depth=3)


def test_every_block_removes_its_count(tiny_model: LoadedModel) -> None:
    images = torch.randn(3, *tiny_model.preprocessing.input_size)
    with torch.inference_mode():
        forward = run(tiny_model.network, SCHEDULE, images)
    assert forward.attention_tokens == (101, 96, 96, 66, 54, 47)
    assert forward.mlp_tokens == (96, 96, 66, 54, 47, 1)


def test_more_than_half_is_never_removed(tiny_model: LoadedModel) -> None:
    images = torch.randn(2, *tiny_model.preprocessing.input_size)
    with torch.inference_mode():
        forward = run(tiny_model.network, Fixed(r=(99,) * 6, split_depth=6), images)
    assert forward.mlp_tokens == (51, 26, 14, 8, 5, 1)


def test_an_answer_does_not_depend_on_batch_mates(tiny_model: LoadedModel) -> None:
    images = torch.randn(6, *tiny_model.preprocessing.input_size)
    with torch.inference_mode():
        together = run(tiny_model.network, SCHEDULE, images).logits
        alone = [run(tiny_model.network, SCHEDULE, image[None]).logits for image in images]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_parameters_go_through_a_file_as_a_list() -> None:
    params = SCHEDULE.params()
    assert params["r"] == [5, 0, 30, 12, 7, 0]
    assert build("fixed", params) == SCHEDULE
    assert hash(build("fixed", params)) == hash(SCHEDULE)


@pytest.mark.parametrize("r", [7, "12", [1, -1], [1, 2.5], [True, 1], None])
def test_what_is_no_list_of_counts_is_refused(r: object) -> None:
    with pytest.raises(ParameterError, match="is no list of counts"):
        build("fixed", {"r": r, "split_depth": 3})


def test_a_schedule_for_another_depth_is_refused() -> None:
    with pytest.raises(ParameterError, match="r has 6 counts, the model has 12 blocks"):
        SCHEDULE.check(12)
    with pytest.raises(ParameterError, match="beyond the depth 6"):
        Fixed(r=(0,) * 6, split_depth=7).check(6)
    with pytest.raises(ParameterError, match="split_depth=-1"):
        Fixed(r=(0,), split_depth=-1)

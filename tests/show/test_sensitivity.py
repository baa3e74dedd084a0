"""The class token under merging in one block alone."""

import numpy as np
import torch

from atm_search.data.embedded import embedded_shard
from atm_search.models.zoo import DEMO, load_model
from atm_search.show.sensitivity import class_token_distance, sensitivity_figure


def test_lower_thresholds_move_the_class_token_further() -> None:
    model = load_model(DEMO, device="cpu")
    pixels = embedded_shard(10).images
    thresholds = [1.0, 0.9, 0.7]
    distances = class_token_distance(model, pixels, thresholds)
    assert distances.shape == (3, 11)
    assert np.allclose(distances[0], 0.0, atol=1e-5)  # noise makes no two tokens equal
    means = distances.mean(axis=1)
    assert means[0] < means[1] < means[2]
    assert not model.network.norm._forward_hooks
    figure = sensitivity_figure(distances, thresholds)
    assert [trace.name for trace in figure.data] == [f"threshold {t:g}" for t in thresholds]
    assert torch.equal(pixels, embedded_shard(10).images)

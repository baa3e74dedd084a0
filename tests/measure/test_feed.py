"""Batches on the device, of which some stay there."""

import pytest
import torch

from atm_search.data.shard import Shard
from atm_search.measure.feed import Feed

CPU = torch.device("cpu")


@pytest.mark.parametrize("batches", [0, 1, 3, 9])
def test_batches_are_the_shard_s_however_many_stay(tiny_shard: Shard, batches: int) -> None:
    seen = []
    shard = Shard(
        tiny_shard.images,
        tiny_shard.labels,
        tiny_shard.names,
        tiny_shard.digest,
        "noise",
        check=lambda start, end: seen.append(start),
    )
    feed = Feed(shard, 16, CPU, room=batches * 16 * shard.images[0].nbytes)
    for _ in range(3):
        seen.clear()
        images, labels = zip(*feed.batches(), strict=True)
        assert [len(batch) for batch in images] == [16, 16, 16, 2]
        assert torch.cat(images).equal(tiny_shard.images)
        assert torch.cat(labels).equal(tiny_shard.labels)
    stay = {0: 0, 1: 1, 3: 3, 9: 4}[batches]
    assert seen == [0, 16, 32, 48][stay:]  # what stays is not asked for again


def test_a_pass_that_is_broken_off_does_no_harm(tiny_shard: Shard) -> None:
    feed = Feed(tiny_shard, 16, CPU, room=10**9)
    next(feed.batches())
    images, _ = zip(*feed.batches(), strict=True)
    assert torch.cat(images).equal(tiny_shard.images)

"""The shard: what it holds, how it is cut into batches, what identifies it."""

from dataclasses import replace

import pytest
import torch

from atm_search.data.shard import Shard, shard_digest
from atm_search.errors import DataError

SHARD = Shard(
    images=torch.arange(5 * 3 * 4 * 6).remainder(256).to(torch.uint8).view(5, 3, 4, 6),
    labels=torch.tensor([0, 1, 0, 1, 7]),
    names=("a", "b", "c", "d", "e"),
    digest="4f1c90ab" + "0" * 56,
    source="five pictures",
)


def test_batches_keep_the_order_and_the_last_is_short() -> None:
    batches = list(SHARD.batches(2))
    assert [len(images) for images, _ in batches] == [2, 2, 1]
    assert torch.cat([images for images, _ in batches]).equal(SHARD.images)
    assert torch.cat([labels for _, labels in batches]).equal(SHARD.labels)


def test_batches_copy_nothing() -> None:
    images, _ = next(SHARD.batches(3))
    assert images.data_ptr() == SHARD.images.data_ptr()


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(DataError, match=r"batch_size=0"):
        SHARD.batches(0)


def test_repr_is_brief_and_exact() -> None:
    assert len(SHARD) == 5
    assert repr(SHARD) == "Shard(5 images of 4x6, 3 classes, 4f1c90ab, five pictures)"
    assert repr(replace(SHARD, skipped=("x", "y"))).endswith("five pictures, 2 skipped)")


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": SHARD.images.float()},
        {"images": SHARD.images[0]},
        {"images": SHARD.images[:, :1]},
        {"images": SHARD.images[:0], "labels": SHARD.labels[:0], "names": ()},
        {"labels": SHARD.labels[:4]},
        {"labels": SHARD.labels.int()},
        {"names": ("a",)},
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"are no shard"):
        replace(SHARD, **wrong)  # type: ignore[arg-type]


def test_digest_tells_contents_labels_and_order_apart() -> None:
    one, two = b"1" * 32, b"2" * 32
    digests = {
        shard_digest([one, two], [0, 1]),
        shard_digest([two, one], [0, 1]),
        shard_digest([one, two], [1, 0]),
        shard_digest([one], [0]),
    }
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)

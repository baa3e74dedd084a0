"""Batches of a shard on the device that measures them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from atm_search.data.shard import Shard

SHARE = 0.5
"""Of a GPU's free memory, how much the images may take; the rest is for the model at work."""


class Feed:
    """The batches of a shard, in order; those for which there is room stay on the device.

    They stay as uint8, which takes a quarter of their normalised form: 150 KB for 224 x 224.
    """

    def __init__(
        self, shard: Shard, batch_size: int, device: torch.device, *, room: int | None = None
    ) -> None:
        """Nothing is copied yet.

        Args:
            shard: the images.
            batch_size: images per batch, >= 1; the last may be short.
            device: where the batches are wanted.
            room: bytes of its memory that images may take; None takes `SHARE` of what is free
                there now, and none of a CPU's, for which the images are where they should be.
        """
        self._shard = shard
        self._batch_size = batch_size
        self._device = device
        self._room = _room(device) if room is None else room
        self._resident: list[tuple[Tensor, Tensor | None]] = []

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """uint8 images [batch, 3, height, width] and labels [batch], if any, on the device.

        Raises:
            DataError: an image is damaged.
        """
        yield from self._resident
        rest = self._shard.batches(self._batch_size, start=len(self._resident))
        for number, (images, labels) in enumerate(rest, start=len(self._resident)):
            there = None if labels is None else labels.to(self._device)
            batch = images.to(self._device), there
            if number == len(self._resident) and images.nbytes <= self._room:
                self._room -= images.nbytes
                self._resident.append(batch)
            yield batch


def _room(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int(SHARE * free)

"""How an image becomes a model's input."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalisation, in timm's terms. Part of a measurement's identity."""

    input_size: tuple[int, int, int]
    """Channels, height, width."""
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    """Share of the resized image that the crop keeps: 224 / 0.9 resizes to 248."""
    crop_mode: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """From a timm data configuration, or from what `to_dict` gave."""
        channels, height, width = config["input_size"]
        return cls(
            input_size=(channels, height, width),
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            crop_pct=config["crop_pct"],
            crop_mode=config["crop_mode"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and YAML."""
        values = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    def pixels(self, image: Image) -> npt.NDArray[np.uint8]:
        """The resized and cropped RGB image, uint8 [3, height, width]; not yet normalised."""
        transform = transforms_imagenet_eval(
            img_size=self.input_size[1:],
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            interpolation=self.interpolation,
            mean=self.mean,
            use_prefetcher=True,  # timm's word for: leave normalising to the device
        )
        return np.asarray(transform(image), dtype=np.uint8)

    def normalise(self, pixels: Tensor) -> Tensor:
        """float32 images [batch, 3, height, width] of uint8 ones, on the same device."""
        mean, std = (
            torch.tensor(values, device=pixels.device).view(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        return pixels.float().div_(255.0).sub_(mean).div_(std)

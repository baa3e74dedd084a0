"""Class indices from folder names."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

from atm_search.errors import DataError


def class_indices(folders: Iterable[str], *, num_classes: int) -> dict[str, int]:
    """Class index of the model for every folder name.

    The names decide, in this order:

    1. WordNet ids (`n01440764`) and a model with the class count of an ImageNet that timm knows
       (1,000, 11,221, 11,821, 21,841 ...): the model's own index of that synset, however few of
       the classes are there. Other names beside them are refused.
    2. Digits only (ImageNetV2 has 0 ... 999): the number is the index.
    3. Anything else: 0, 1, 2 ... in sorted order, as in torchvision's ImageFolder. This can be
       right only if there are as many folders as the model has classes, so another number is
       refused; keep an empty folder for a class that has no images.

    Raises:
        DataError: a name stands for a class that the model does not have, two names stand for
            one class, names are mixed that cannot be read together, or neither names nor number
            say which classes they are.
    """
    names = sorted(set(folders))
    synsets = _imagenet_synsets(num_classes)
    if synsets and any(map(is_wordnet_id, names)):
        return _by_synset(names, synsets)
    # isdecimal alone would let other scripts' digits through.
    if all(name.isascii() and name.isdecimal() for name in names):
        return _by_number(names, num_classes)
    if len(names) != num_classes:
        raise DataError(
            f"{len(names):,} class folders, from '{names[0]}' to '{names[-1]}', but the model has "
            f"{num_classes:,} classes: which folder is which class would be a guess. Name the "
            "folders by WordNet id or class index, or give one folder for every class."
        )
    return {name: index for index, name in enumerate(names)}


def is_wordnet_id(name: str) -> bool:
    """Whether the name is a WordNet id as ImageNet writes it, `n` and eight digits."""
    return re.fullmatch(r"n[0-9]{8}", name) is not None


@cache
def _imagenet_synsets(num_classes: int) -> dict[str, int] | None:
    subset = infer_imagenet_subset({"num_classes": num_classes})
    if subset is None:
        return None
    imagenet = ImageNetInfo(subset)
    return {imagenet.index_to_label_name(index): index for index in range(num_classes)}


def _by_synset(names: Sequence[str], synsets: dict[str, int]) -> dict[str, int]:
    others = [name for name in names if not is_wordnet_id(name)]
    if others:
        raise DataError(
            f"WordNet ids such as '{next(filter(is_wordnet_id, names))}' are mixed with "
            f"{_some(others)}: the labels would be a guess. Name every class folder by its "
            "WordNet id, or move the others away."
        )
    unknown = [name for name in names if name not in synsets]
    if unknown:
        raise DataError(
            f"The model has {len(synsets):,} ImageNet classes but none for {_some(unknown)} "
            f"({len(unknown):,} of {len(names):,} folders): labels the model has no class for. "
            "Leave these folders out, or use a model that knows them."
        )
    return {name: synsets[name] for name in names}


def _by_number(names: Sequence[str], num_classes: int) -> dict[str, int]:
    indices = {name: int(name) for name in names}
    beyond = [name for name in names if indices[name] >= num_classes]
    if beyond:
        raise DataError(
            f"Folders named by number are class indices, 0 to {num_classes - 1:,} for this model, "
            f"but there is {_some(beyond)}: labels the model has no class for. "
            "Number the folders from 0, or use a model with more classes."
        )
    if len(set(indices.values())) < len(names):
        raise DataError(
            f"{_some(names)}: some of these are the same number, hence the same class. "
            "Merge the folders that mean one class."
        )
    return indices


def _some(names: Sequence[str]) -> str:
    """The first three names, quoted, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more

"""Folder names to class indices."""

import pytest
import torchvision
from timm.data.imagenet_info import ImageNetInfo

from atm_search.data.labels import class_indices, is_wordnet_id
from atm_search.errors import DataError

# WordNet ids of Imagenette and their indices in ImageNet-1k, as the model cards of torchvision
# and timm list them.
IMAGENETTE = {
    "n01440764": 0,
    "n02102040": 217,
    "n02979186": 482,
    "n03000684": 491,
    "n03028079": 497,
    "n03394916": 566,
    "n03417042": 569,
    "n03425413": 571,
    "n03445777": 574,
    "n03888257": 701,
}


def test_wordnet_ids_map_to_the_model_class_even_if_few_are_present() -> None:
    known = {"n01440764": 0, "n01443537": 1, "n15075141": 999}
    assert class_indices(known, num_classes=1000) == known


def test_imagenette_maps_to_the_1000_classes_of_imagenet() -> None:
    assert class_indices(IMAGENETTE, num_classes=1000) == IMAGENETTE


def test_imagenet_indices_agree_with_torchvision_class_names() -> None:
    """A second opinion: torchvision's list of names, in index order."""
    categories = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    named = {"n03888257": "parachute", "n03445777": "golf ball", "n01443537": "goldfish"}
    for synset, index in class_indices(named, num_classes=1000).items():
        assert categories[index] == named[synset]


@pytest.mark.parametrize("num_classes", [11_221, 11_821, 21_841, 21_842, 21_843])
def test_other_imagenet_subsets_are_known_by_their_class_count(num_classes: int) -> None:
    subset = {
        11_221: "imagenet-21k-miil",
        11_821: "imagenet-12k",
        21_841: "imagenet-22k",
        21_842: "imagenet-22k-ms",
        21_843: "imagenet-21k-goog",
    }[num_classes]
    synset = ImageNetInfo(subset).index_to_label_name(4321)
    assert class_indices([synset], num_classes=num_classes) == {synset: 4321}


def test_wordnet_ids_of_a_fine_tuned_model_count_in_sorted_order() -> None:
    expected = {name: index for index, name in enumerate(sorted(IMAGENETTE))}
    assert class_indices(reversed(IMAGENETTE), num_classes=10) == expected


def test_wordnet_ids_that_the_model_lacks_are_named_and_counted() -> None:
    # n00004475 (organism) and n00015388 (animal) are in ImageNet-21k, not in 1k.
    with pytest.raises(DataError, match=r"'n00004475', 'n00015388' \(2 of 3 folders\)"):
        class_indices(["n01440764", "n00004475", "n00015388"], num_classes=1000)


def test_wordnet_ids_beside_other_names_are_refused() -> None:
    with pytest.raises(DataError, match=r"'n01440764' are mixed with 'cat'"):
        class_indices(["n01440764", "cat"], num_classes=1000)


def test_wordnet_ids_beside_other_names_count_in_sorted_order_for_other_models() -> None:
    assert class_indices(["n01440764", "cat"], num_classes=2) == {"cat": 0, "n01440764": 1}


def test_numbers_are_indices_by_value_not_by_text_order() -> None:
    assert class_indices(["10", "9", "999"], num_classes=1000) == {"10": 10, "9": 9, "999": 999}


def test_numbers_may_have_leading_zeros() -> None:
    assert class_indices(["000", "017"], num_classes=18) == {"000": 0, "017": 17}


def test_numbers_beyond_the_model_are_refused() -> None:
    with pytest.raises(DataError, match=r"0 to 9 for this model, but there is '10'"):
        class_indices([str(number) for number in range(1, 11)], num_classes=10)


def test_two_folders_of_one_number_are_refused() -> None:
    with pytest.raises(DataError, match=r"'07', '7'"):
        class_indices(["7", "07"], num_classes=10)


def test_other_names_count_in_sorted_order() -> None:
    assert class_indices(["dog", "ant", "cat"], num_classes=3) == {"ant": 0, "cat": 1, "dog": 2}


@pytest.mark.parametrize(("folders", "num_classes"), [(3, 2), (10, 1000)])
def test_another_number_of_folders_than_classes_is_refused_with_both(
    folders: int, num_classes: int
) -> None:
    """Ten named folders and a model of 1,000 classes: sorted order would say 0 to 9."""
    names = [f"animal{number}" for number in range(folders)]
    with pytest.raises(
        DataError, match=rf"{folders} class folders.*{num_classes:,} classes.*guess"
    ):
        class_indices(names, num_classes=num_classes)


@pytest.mark.parametrize("name", ["n0144076", "n014407644", "m01440764", "n0144076٤", ""])
def test_near_misses_are_no_wordnet_ids(name: str) -> None:
    assert not is_wordnet_id(name)

"""What a study fixes: stored without loss, and differences in words."""

import json
from types import ModuleType

import pytest

from atm_search.errors import ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.method import Range
from atm_search.search.identity import Identity
from atm_search.search.space import Space


def test_json_gives_an_equal_identity_back(stub: ModuleType) -> None:
    identity = stub.identity(protocol={"preprocessing": {"mean": (0.485, 0.456, 0.406)}})
    again = Identity.from_dict(json.loads(json.dumps(identity.to_dict())))
    assert again == identity
    assert again.differences(identity) == []


def test_more_images_are_named_with_both_shards(stub: ModuleType) -> None:
    other = stub.identity(images=5000, shard_digest="90ab" * 16)
    assert stub.identity().differences(other) == [
        "measured on 1,000 images (shard 4f1c), you gave 5,000 (shard 90ab)"
    ]


def test_digests_are_shown_as_long_as_tells_them_apart(stub: ModuleType) -> None:
    other = stub.identity(weights_digest="ab" * 31 + "cd")
    (line,) = stub.identity().differences(other)
    assert line == f"made with weights {'ab' * 31}a, you gave {'ab' * 31}c"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"model": "vit"}, "made with model deit_tiny_patch16_224, you gave vit"),
        (
            {
                "protocol": {
                    "batch_size": 50,
                    "dtype": "float32",
                    "preprocessing": {"crop_pct": 0.9},
                }
            },
            "made with batch_size 100, you gave 50",
        ),
        (
            {"protocol": {"batch_size": 100, "dtype": "float32", "preprocessing": {}}},
            "made with preprocessing.crop_pct 0.9, you gave unset",
        ),
        (
            {"fixed_params": {"prop_attn": False, "cls_only_last_block": True}},
            "made with prop_attn True, you gave False",
        ),
        (
            {"space": Space((*Atm.space(12)[:3], Range("split_depth", 0, 24, 1)))},
            "made with split_depth 0 to 12 by 1, you gave 0 to 24 by 1",
        ),
    ],
)
def test_each_difference_names_both_values(
    stub: ModuleType, change: dict[str, object], line: str
) -> None:
    assert stub.identity().differences(stub.identity(**change)) == [line]


def test_another_method_is_one_difference_not_one_per_parameter(stub: ModuleType) -> None:
    assert stub.identity().differences(stub.tome_identity(25)) == [
        "made with method atm, you gave tome"
    ]


def test_a_point_of_the_space_becomes_the_method(stub: ModuleType) -> None:
    method = stub.identity().configured(Space(Atm.space(12)).at(0))
    assert method == Atm(tau0=0.945, alpha=0.015, tau_min=0.8, split_depth=0)


def test_a_point_that_breaks_the_methods_rule_is_refused(stub: ModuleType) -> None:
    point = Space(Atm.space(12)).at(0) | {"tau0": 0.9, "tau_min": 0.945}
    with pytest.raises(ParameterError, match=r"tau_min=0\.945 is above tau0=0\.9"):
        stub.identity().configured(point)

"""Whether the figures of a configuration file hold where it is to run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from atm_search.deploy.configuration import Configuration
from atm_search.measure.measurement import Measurement
from atm_search.measure.provenance import device_name, versions
from atm_search.measure.statistics import Z95
from atm_search.models.zoo import LoadedModel

EXACT = ("images", "top1_hits", "dense_top1_hits", "lost", "gained", "agreements")
"""Counts that come out equal when everything that they depend on is equal."""

ROUNDING = 1e-6
"""Relative difference of sums that come out equal but for the file's decimals."""

GFLOPS_SLACK, GFLOPS_SLACK_ELSEWHERE = 0.01, 0.03
"""Relative difference of GFLOPs that rounding in another kernel can make, and other images."""


@dataclass(frozen=True)
class Check:
    """One figure of the file beside the same one measured now."""

    name: str
    expected: float
    measured: float
    allowed: float
    """Largest difference with which the figure still holds."""

    @property
    def holds(self) -> bool:
        """Whether both agree as far as they must."""
        return abs(self.measured - self.expected) <= self.allowed


@dataclass(frozen=True)
class Verification:
    """What was compared, by which rule."""

    rule: str
    """What had to agree how closely, and why, in words."""
    checks: tuple[Check, ...]
    contradictions: tuple[str, ...]
    """Values of the file that do not follow from its others, as in an edited file."""
    measurement: Measurement

    @property
    def holds(self) -> bool:
        """Whether the file says what was measured now."""
        return not self.contradictions and all(check.holds for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "holds": self.holds,
            "rule": self.rule,
            "checks": [asdict(check) | {"holds": check.holds} for check in self.checks],
            "contradictions": list(self.contradictions),
            "measured": self.measurement.figures(),
        }


def verify(
    configuration: Configuration, measured: Measurement, *, model: LoadedModel, shard_digest: str
) -> Verification:
    """The file's figures against new ones, as closely as the circumstances let them agree.

    On the same images, device, dtype and versions the counts are equal. On the same images
    otherwise, rounding moves pairs across a threshold and images across a decision: the change of
    top-1 has to stay within the file's interval. On other images both changes are estimates, and
    have to agree within the 95 % interval of their difference.

    Args:
        configuration: the file.
        measured: its method in batches of its size.
        model: what it was measured with now.
        shard_digest: what it was measured on now.
    """
    other = _other_circumstances(configuration, model)
    known = configuration.measurement.has_labels and measured.has_labels
    what = "change of top-1" if known else "distance from the dense model"
    whose = "the file's" if known else "their"
    if shard_digest != configuration.data.sha256:
        rule = (
            f"on other images (shard {shard_digest[:8]}, the file's is "
            f"{configuration.data.sha256[:8]}) the {what} agrees within the 95 % interval "
            f"of the difference, GFLOPs within {100 * GFLOPS_SLACK_ELSEWHERE:g} %"
        )
        checks = _elsewhere(configuration.measurement, measured)
    elif other:
        rule = (
            f"on the same images with {', '.join(other)} the {what} stays within "
            f"{whose} 95 % interval, GFLOPs within {100 * GFLOPS_SLACK:g} %"
        )
        checks = _close(configuration.measurement, measured)
    else:
        rule = "on the same images, device, dtype and versions all counts are equal"
        checks = _equal(configuration.measurement, measured)
    contradictions = tuple(
        f"{'.'.join(location)} {reason}" for location, reason in configuration.contradictions()
    )
    return Verification(rule, tuple(checks), contradictions, measured)


def _other_circumstances(configuration: Configuration, model: LoadedModel) -> list[str]:
    """What can change a figure, and is not as it was; each as 'another ...'."""
    protocol = configuration.protocol
    other = []
    if device_name(model.device) != protocol.device:
        other.append(f"another device ({device_name(model.device)}, not {protocol.device})")
    if model.dtype_name != protocol.dtype:
        other.append(f"another dtype ({model.dtype_name}, not {protocol.dtype})")
    return other + [f"another {name}" for name in _changed(configuration.versions)]


def _changed(before: Mapping[str, str]) -> list[str]:
    """Packages of another version, as 'torch (2.6, not 2.5)'."""
    return [
        f"{name} ({now}, not {before.get(name, 'known')})"
        for name, now in versions().items()
        if name != "python" and before.get(name) != now
    ]


def _equal(expected: Measurement, measured: Measurement) -> list[Check]:
    counts = [
        Check(name, before, after, 0)
        for name in EXACT
        if (before := getattr(expected, name)) is not None
        and (after := getattr(measured, name)) is not None
    ]
    sums = [
        Check(name, before, now, ROUNDING * before + 1e-9)
        for name, before, now in (
            ("gflops", expected.gflops, measured.gflops),
            (_distance(expected), expected.distance, measured.distance),
        )
    ]
    return counts + sums


def _close(expected: Measurement, measured: Measurement) -> list[Check]:
    return [
        _quality(expected, measured, _half_width(expected)),
        Check("gflops", expected.gflops, measured.gflops, GFLOPS_SLACK * expected.gflops),
    ]


def _elsewhere(expected: Measurement, measured: Measurement) -> list[Check]:
    allowed = math.hypot(_half_width(expected), _half_width(measured))
    slack = GFLOPS_SLACK_ELSEWHERE * expected.gflops
    return [
        _quality(expected, measured, allowed),
        Check("gflops", expected.gflops, measured.gflops, slack),
    ]


def _quality(expected: Measurement, measured: Measurement, allowed: float) -> Check:
    """The change of top-1; where it is unknown, the distance from the dense model."""
    if expected.has_labels and measured.has_labels:
        return Check("delta_top1", expected.delta_top1, measured.delta_top1, allowed)
    error = Z95 * math.hypot(expected.distance_se, measured.distance_se)
    return Check(_distance(expected), expected.distance, measured.distance, error)


def _distance(measurement: Measurement) -> str:
    """The name of its distance from the dense model."""
    return "kl" if measurement.has_head else "feature"


def _half_width(measurement: Measurement) -> float:
    low, high = measurement.delta_ci95
    return (high - low) / 2

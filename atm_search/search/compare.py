"""Methods side by side: what each reaches at given cost, and what each costs without loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from atm_search.errors import ParameterError, StudyError
from atm_search.measure.flops import LastBlock
from atm_search.search.dense import Dense
from atm_search.search.frontier import FrontierPoint, measured_points
from atm_search.search.scores import TOP1, Score
from atm_search.search.study import Study

SHARES = (0.9, 0.8, 0.7)
"""Of the dense model's GFLOPs, compared at unless told otherwise."""


@dataclass(frozen=True)
class Priced:
    """A configuration, and what it costs as its contender counts."""

    point: FrontierPoint
    gflops: float


@dataclass(frozen=True)
class Contender:
    """The best of one method."""

    method: str
    prefix_only: bool | None
    """Whether GFLOPs are with prefix tokens alone in the last block's MLP, whatever was measured;
    None as measured."""
    measured: int
    """Configurations, over all studies."""
    at: tuple[Priced | None, ...]
    """For each budget the best configuration within it; None if there is none."""
    lossless: Priced | None
    """The cheapest configuration with at least the dense model's accuracy on these images; None
    also without labels."""


@dataclass(frozen=True)
class Comparison:
    """Methods on one model and the same images."""

    model: str
    dense: Dense
    score: Score
    """What they are compared by: top-1 if there are labels, else the distance from dense."""
    budgets: tuple[float, ...]
    """GFLOPs."""
    contenders: tuple[Contender, ...]
    """In the order of their studies; twice if GFLOPs can be counted in two ways."""


def compare(
    studies: Sequence[Study],
    *,
    budgets: Sequence[float] = (),
    last_block: LastBlock | None = None,
) -> Comparison:
    """The methods of some studies; of several studies with one method the points are pooled.

    Every configuration measured on all images counts, whatever constraints its study had.

    Args:
        studies: one at least.
        budgets: GFLOPs; without any, shares of the dense model's, to one decimal.
        last_block: of the model, if its head reads prefix tokens alone: then every method is
            compared with that saving, and without.

    Raises:
        StudyError: there is no study, or two are not of the same model and images.
        ParameterError: a budget is not positive.
    """
    if not studies:
        raise StudyError("There is no study to compare: start a search first.")
    for budget in budgets:
        if not budget > 0:
            raise ParameterError(f"--at {budget} is no cost: give GFLOPs above 0.")
    first = studies[0]
    for other in studies[1:]:
        _check_alike(first, other)
    pooled: dict[str, list[FrontierPoint]] = {}
    for study in studies:
        points = measured_points(study.records(), study.dense)
        for method in study.identity.methods:
            pooled.setdefault(method, [])
        for point in points:
            pooled.setdefault(point.method, []).append(point)
    limits = tuple(budgets) or tuple(
        dict.fromkeys(round(share * first.dense.gflops, 1) for share in SHARES)
    )
    score = TOP1 if first.dense.has_labels else first.objectives.score
    contenders = tuple(
        _contender(name, _priced(points, last_block, prefix_only), score, limits, prefix_only)
        for prefix_only in ([None] if last_block is None else [True, False])
        for name, points in pooled.items()
    )
    return Comparison(first.identity.model, first.dense, score, limits, contenders)


def _check_alike(one: Study, other: Study) -> None:
    for what in ("model", "weights_digest", "images", "shard_digest"):
        ours, theirs = getattr(one.identity, what), getattr(other.identity, what)
        if ours != theirs:
            name = what.replace("_digest", "")
            raise StudyError(
                f"Studies '{one.name}' and '{other.name}' cannot be compared: their {name} differ "
                f"({str(ours)[:30]}, {str(theirs)[:30]}). Name those that belong together with "
                "--study."
            )


def _priced(
    points: Sequence[FrontierPoint], last_block: LastBlock | None, prefix_only: bool | None
) -> list[Priced]:
    """Points with what they cost."""
    if last_block is None or prefix_only is None:
        return [Priced(point, point.measurement.gflops) for point in points]
    return [
        Priced(
            point,
            last_block.gflops(
                point.measurement,
                was=bool(point.params.get("cls_only_last_block", False)),
                prefix_only=prefix_only,
            ),
        )
        for point in points
    ]


def _contender(
    method: str,
    points: Sequence[Priced],
    score: Score,
    budgets: Sequence[float],
    prefix_only: bool | None,
) -> Contender:
    at, sign = [], 1.0 if score.maximize else -1.0
    for budget in budgets:
        within = [priced for priced in points if priced.gflops <= budget]
        # Of equals the cheaper.
        best = max(
            within,
            key=lambda p: (sign * score.of(p.point.measurement), -p.gflops),
            default=None,
        )
        at.append(best)
    without_loss = [priced for priced in points if priced.point.measurement.delta_top1 >= 0.0]
    cheapest = min(without_loss, key=lambda priced: priced.gflops, default=None)
    return Contender(method, prefix_only, len(points), tuple(at), cheapest)

"""A study in words: what was searched, on what, what it was made with, how to do it again."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atm_search.merging.registry import methods
from atm_search.search.dense import Dense
from atm_search.search.frontier import reference_point
from atm_search.search.judged import judged
from atm_search.search.space import Space
from atm_search.search.study import Study
from atm_search.show.picks import NAMES
from atm_search.show.status import pick_text, status, status_text
from atm_search.show.view import View


def note(view: View) -> list[str]:
    """What was searched, on what, how far it is, and the picks; a sentence or two each."""
    study = view.study
    identity, dense = study.identity, study.dense
    source = Path(study.plan.hints.get("data", "of unknown source")).name
    lines = [
        f"{', '.join(identity.methods).upper()} in {identity.model}, searched by "
        f"{study.plan.sampler} over {_count(identity.space.size)} configurations, on "
        f"{dense.images:,} images ({source}). "
        f"The dense model{_reaches(dense)} costs {dense.gflops:.4f} GFLOPs. "
        f"Optimised: {study.objectives.in_words()}.",
        f"{status_text(status(view))}; {len(view.points)} configurations on the frontier.",
    ]
    limits = identity.constraints.to_dict()
    if limits:
        words = ", ".join(f"{name} {limit:g}" for name, limit in limits.items())
        lines.append(f"Only configurations that keep {words} count.")
    if not view.points:
        return [*lines, "No finished trial yet: the frontier appears with the first."]
    for name, what in NAMES.items():
        point = view.picks.get(name)
        if point is None and not view.score.is_accuracy:
            continue  # a pick by what is lost, which nobody knows here
        found = "none found" if point is None else pick_text(point, view.score)
        lines.append(f"{name.replace('_', ' ').capitalize()} ({what}): {found}.")
    return lines


def caveats(view: View) -> list[str]:
    """How far the figures can be trusted."""
    score = view.score
    far, gflops, *latency = reference_point(view.study.dense, view.study.objectives)
    meaning = (
        "Intervals are 95 % intervals of the paired change of top-1 against the dense model on the "
        "same images."
        if score.is_accuracy
        else f"After ± stands the standard error of {score.title}, which is a distance from the "
        "dense model: 0 is the dense model itself. What it costs in accuracy, only labels can tell."
    )
    unit = "%" if score.is_accuracy else score.unit
    limits = [f"{score.title} {far:.2f} {unit}".rstrip(), f"{gflops:.4f} GFLOPs"]
    limits += [f"{ms:.2f} ms" for ms in latency]
    lines = [
        f"{meaning} The frontier's points were chosen for looking good on these very images: on "
        "others they will look a little worse.",
        f"The picks are judged by {judged(view.points, view.study.objectives).on}.",
        f"Hypervolume is measured from {', '.join(limits)}.",
    ]
    if view.relation is not None:
        lines.append(view.relation.in_words())
    if view.raced:
        lines.append(
            "Trials that were raced out were measured on fewer images, until others were surely "
            "better; they are estimates and never on the frontier."
        )
    if view.published is not None:
        lines.append(
            f"Published figures ({view.published.source}) are of other images: they are drawn at "
            f"their change from their own dense model, top-1 {view.published.dense.top1:.2f} %, "
            f"{view.published.dense.gflops:.2f} GFLOPs."
        )
    return lines


def provenance(study: Study, view: View) -> list[tuple[str, str]]:
    """What figures were made from and with: name and value, for people."""
    identity, plan = study.identity, study.plan
    protocol = dict(identity.protocol)
    preprocessing = protocol.pop("preprocessing", {})
    facts = [
        ("model", identity.model),
        ("weights", f"sha256 {identity.weights_digest} ({plan.hints.get('weights', '?')})"),
        ("images", f"{identity.images:,} ({plan.hints.get('data', '?')})"),
        ("shard", f"sha256 {identity.shard_digest}"),
        *((name, _plain(value)) for name, value in protocol.items()),
        ("preprocessing", _plain(preprocessing)),
        ("method", identity.method),
        *((name, f"{value} (fixed)") for name, value in identity.fixed_params.items()),
        *((r.name, f"{r.low} to {r.high} by {r.step}") for r in identity.space.ranges),
        *((name, f"{limit:g}") for name, limit in identity.constraints.to_dict().items()),
        ("sampler", f"{plan.sampler}, seed {plan.seed}, {plan.budget} trials"),
    ]
    environments = {
        (e.device, e.dtype, ", ".join(f"{name} {v}" for name, v in sorted(e.versions.items())))
        for record in view.records
        if (e := record.environment) is not None
    }
    return facts + [
        ("measured on", f"{device}, {dtype}; {versions}")
        for device, dtype, versions in sorted(environments)
    ]


def commands(view: View) -> list[tuple[str, str]]:
    """What to type to search again, and to deploy: purpose and command."""
    study = view.study
    lines = [("search again, or on", shlex.join(["atm-search", "start", *_options(study)]))]
    if not _is_usual(study):
        lines[0] = ("search again, with a study file for the changed space", lines[0][1])
    export = ["atm-search", "export", "--study", study.name, "-o", "frontier"]
    lines.append(("write a file per configuration of the frontier", shlex.join(export)))
    for name, point in view.picks.items():
        lines.append(
            (name.replace("_", " "), shlex.join([*export, "--pick", f"trial:{point.number}"]))
        )
    lines.append(("deploy, in Python", 'model = atm_search.load("frontier/....yaml")'))
    return lines


def _options(study: Study) -> Iterator[str]:
    """The options of `start` that make this study."""
    identity, plan = study.identity, study.plan
    protocol, hints = identity.protocol, plan.hints
    wanted = {
        "--model": identity.model,
        "--checkpoint": _path(hints.get("weights")),
        "--data": _path(hints.get("data")),
        "--images": hints.get("images"),
        "--batch-size": protocol.get("batch_size"),
        "--dtype": protocol.get("dtype"),
        "--crop-pct": protocol.get("preprocessing", {}).get("crop_pct"),
        "--method": identity.method,
        "--objectives": str(study.objectives),
        "--latency-batch-size": protocol.get("latency", {}).get("batch_size"),
        "--max-drop": identity.constraints.max_drop,
        "--max-gflops": identity.constraints.max_gflops,
        "--sampler": plan.sampler,
        "--step": plan.step if plan.sampler == "grid" else None,
        "--seed": plan.seed,
        "--trials": plan.budget,
        "--study": study.name,
    }
    for option, value in wanted.items():
        if value is not None:
            yield option
            yield f"{value:g}" if isinstance(value, float) else str(value)
    if hints.get("skip_corrupt"):
        yield "--skip-corrupt"


def _plain(value: Any) -> str:
    """A value of the protocol, nested or not, in words."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items())


def _reaches(dense: Dense) -> str:
    return f" reaches top-1 {dense.top1:.2f} % and" if dense.has_labels else ""


def _path(hint: str | None) -> str | None:
    """A hint that is a place, not words such as 'built in'."""
    return hint if hint is not None and Path(hint).is_absolute() else None


def _is_usual(study: Study) -> bool:
    """Whether the study searches its methods' own spaces."""
    identity, known = study.identity, methods()
    if not known.keys() >= set(identity.methods):  # a third party's, not installed here
        return False
    depth = identity.depth or 12
    return Space.of({name: known[name].space(depth) for name in identity.methods}) == identity.space


def _count(number: int) -> str:
    """A number of configurations; DiffRate has more than anybody would read."""
    return f"{number:,}" if number < 1e12 else f"{number:.0e}"

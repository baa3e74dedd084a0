"""Tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from atm_search.measure.measurement import Measurement
from atm_search.search.dense import Dense
from atm_search.search.frontier import FrontierPoint
from atm_search.search.scores import FEATURE, KL
from atm_search.search.trials import TrialRecord


def measurement_table(measurement: Measurement, *, title: str) -> Table:
    """Everything one measurement says, a line each, with units."""
    m = measurement
    low, high = m.delta_ci95
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    accuracy = (
        ("top-1", f"{m.top1:.2f} %   (dense {m.dense_top1:.2f} %)"),
        (
            "change",
            f"{m.delta_top1:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f} (paired)",
        ),
        ("top-5", f"{m.top5:.2f} %   (dense {m.dense_top5:.2f} %)"),
    )
    unknown = (("top-1", "unknown: the images have no labels"),)
    kl = (
        ("agreement", f"{m.agreement:.2f} % of images get the dense model's class"),
        ("KL", f"{KL.text(m)} nats from the dense model's probabilities"),
    )
    feature = (("feature", f"{FEATURE.text(m)}, cosine distance from the dense model's"),)
    for name, text in (
        ("images", f"{m.images:,}"),
        *(accuracy if m.has_labels else unknown if m.has_head else ()),
        *(kl if m.has_head else feature),
        ("GFLOPs", f"{m.gflops:.4f}   (dense {m.dense_gflops:.4f}; {saving(m)})"),
        ("matching", f"{m.matching_gflops:.5f} GFLOPs on top"),
        ("tokens", "  ".join(f"{count:.0f}" for count in m.tokens_per_layer)),
        ("speed", f"{m.images_per_second:,.0f} images/s, {m.seconds:.1f} s in all"),
        *([("latency", m.latency.in_words())] if m.latency is not None else []),
    ):
        table.add_row(name, text)
    return table


def dense_text(dense: Dense) -> str:
    """The dense model in a line."""
    accuracy = f"top-1 {dense.top1:.2f} %" if dense.has_labels else "top-1 unknown, no labels"
    latency = "" if dense.latency_ms is None else f", {dense.latency_ms:.2f} ms"
    return f"{accuracy}, {dense.gflops:.4f} GFLOPs{latency}"


def saving(measurement: Measurement) -> str:
    """GFLOPs against the dense model, as a signed percentage."""
    return f"{100.0 * (measurement.gflops / measurement.dense_gflops - 1.0):+.1f} %"


def settings_text(configured: TrialRecord | FrontierPoint) -> str:
    """Method and parameters of a trial or point in one line."""
    return f"{configured.method or ''} {params_text(configured.params)}".strip()


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters of a method in one line, switches that stand as usual left out.

    Those of block after block, such as `prune_1`, `prune_2` ..., stand together: `prune=197,180`.
    """
    together: dict[str, list[str]] = {}
    for name, value in params.items():
        if value is not True:
            together.setdefault(_stem(name), []).append(str(value))
    return " ".join(f"{name}={','.join(values)}" for name, values in together.items())


def _stem(name: str) -> str:
    """A parameter's name without the number of its block."""
    stem, _, number = name.rpartition("_")
    return stem if stem and number.isdecimal() else name

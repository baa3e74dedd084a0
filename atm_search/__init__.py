"""Find out how much compute a pretrained Vision Transformer can save without training.

load(path)                 a model from a configuration that a search has found
apply(network, method)     a method at work in your own timm VisionTransformer
evaluate(method, ...)      what a configuration costs, and what accuracy it keeps
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atm_search.deploy.load import load
    from atm_search.measure.setup import evaluate
    from atm_search.models.reduced import apply

__all__ = ["apply", "evaluate", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for at its first use: torch alone takes seconds."""
    if name == "load":
        from atm_search.deploy.load import load

        return load
    if name == "evaluate":
        from atm_search.measure.setup import evaluate

        return evaluate
    if name == "apply":
        from atm_search.models.reduced import apply

        return apply
    raise AttributeError(f"module 'atm_search' has no attribute '{name}'")

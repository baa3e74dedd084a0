"""How much each block merges: similarity thresholds (ATM, Eq. 1) and counts r (ToMe)."""

import math

from atm_search.errors import ParameterError


def threshold_schedule(
    tau0: float, alpha: float, tau_min: float, *, depth: int
) -> tuple[float, ...]:
    """Similarity threshold of every block, first to last.

    Falls from tau0, ever faster with depth, and stops at tau_min; alpha = 0 keeps tau0
    throughout: `tau_l = max(tau0 - (exp(alpha * (l - 1)) - 1), tau_min)`.

    Args:
        tau0: cosine similarity that block 1 asks for.
        alpha: growth per block, >= 0.
        tau_min: least similarity that any block asks for, tau_min <= tau0.
        depth: number of blocks.

    Returns:
        `depth` cosine similarities.

    Raises:
        ParameterError: a value breaks its rule.

    Source: arXiv 2505.15160, Eq. 1.
    """
    if not 0.0 < tau0 <= 1.0:
        raise ParameterError(f"tau0={tau0} is not a usable cosine similarity: use 0 < tau0 <= 1.")
    if not 0.0 <= alpha <= 1.0:
        raise ParameterError(
            f"alpha={alpha} is out of range: thresholds can only fall with depth and reach "
            "tau_min within a block or two at 1. Use 0 <= alpha <= 1."
        )
    if tau_min > tau0:
        raise ParameterError(
            f"tau_min={tau_min} is above tau0={tau0}: thresholds can only fall with depth. "
            "Lower tau_min or raise tau0."
        )
    if not tau_min > 0.0:
        raise ParameterError(
            f"tau_min={tau_min} is not a usable cosine similarity: use 0 < tau_min <= tau0."
        )
    return tuple(max(tau0 - math.expm1(alpha * block), tau_min) for block in range(depth))


def count_schedule(r: int, *, inflection: float = 0.0, depth: int) -> tuple[int, ...]:
    """Tokens to remove in every block, first to last: linear from r(1 - f) to r(1 + f).

    Args:
        r: mean count per block, >= 0.
        inflection: f in [-1, 1]; 0 is constant, 1 rises from 0 to 2r, -1 falls from 2r to 0.
        depth: number of blocks.

    Returns:
        `depth` counts, each truncated to an integer.

    Raises:
        ParameterError: a value breaks its rule.

    Source: arXiv 2210.09461, section 4 (r and its schedules).
    """
    if r < 0:
        raise ParameterError(f"r={r} is negative: it counts the tokens removed in a block.")
    if not -1.0 <= inflection <= 1.0:
        raise ParameterError(f"inflection={inflection} is out of range: use -1 to 1.")
    first = int(r * (1.0 - inflection))
    if depth == 1:
        return (first,)
    step = (2 * r - 2 * first) / (depth - 1)
    return tuple(int(first + step * block) for block in range(depth))


def rate_count(keep_rate: float, count: int) -> int:
    """Tokens to remove if a share of `count` tokens is kept, rounded down; at most half of them.

    Source: arXiv 2405.16148 (PiToMe), official code.
    """
    return min(math.floor(count - count * keep_rate), count // 2)


def check_keep_rate(keep_rate: float) -> None:
    """Raise ParameterError unless it is a share of tokens that a block keeps."""
    if not 0.0 < keep_rate <= 1.0:
        raise ParameterError(
            f"keep_rate={keep_rate} is no share of tokens: use 0 < keep_rate <= 1; 1 keeps all."
        )


def acting_blocks(depth: int) -> tuple[int, ...]:
    """The three blocks in which methods of few steps act, counted from 1: 4, 7 and 10 of 12.

    After one, two and three quarters of the depth.
    """
    return tuple(1 + quarter * depth // 4 for quarter in (1, 2, 3))

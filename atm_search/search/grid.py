"""The sweep over a sub-grid, in a fixed order, by any number of workers."""

from atm_search.search.history import History
from atm_search.search.space import Space


class SubGrid:
    """Hands out the points of a sub-grid, each once, the first free one first.

    A worker queues a point before it takes a trial. Two workers may queue the same point; numbers
    of trials are unique and only grow, so the earlier trial has it and the later one is given up.
    """

    def __init__(self, space: Space, step: int, *, worker: int) -> None:
        self._space = space.thinned(step)
        self._worker = worker

    def next(self, history: History) -> dict[str, float] | None:
        """A point that is not measured, given up, queued or running; None if there is none left.

        Of several workers each takes another one of the first that are free.
        """
        held = history.held
        free: list[dict[str, float]] = []
        for params in self._space:
            key = self._space.key(params)
            if key in history.measured or key in held or history.given_up(key) is not None:
                continue
            free.append(params)
            if len(free) > self._worker:
                break
        return free[self._worker % len(free)] if free else None

    def is_taken(self, number: int, history: History) -> bool:
        """Whether a trial has nothing to measure: another one has its point, or it has none."""
        if not history.was_queued(number):
            return True
        params = history.queued_params(number)
        space = history.space
        if not space.has(params):
            return False  # refused later, with its reason
        key = space.key(params)
        return key in history.measured or history.held.get(key, number) < number

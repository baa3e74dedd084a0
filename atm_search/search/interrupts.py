"""SIGINT and SIGTERM as an orderly stop."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

PATIENCE_S = 1.0
"""A second signal within this time is the same wish (a terminal and a supervisor both send one)."""


class Interrupts:
    """While entered, a signal raises KeyboardInterrupt only inside `admitted` blocks.

    Elsewhere it is remembered in `requested`, so that a transaction of the store is not torn: a
    trial would stay RUNNING. A later second signal raises at once, wherever it strikes. Signals
    that were ignored before stay ignored, and outside the main thread nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._requested_at = 0.0
        self._admitting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A block that a signal ends by KeyboardInterrupt, at its start if one came before."""
        self._admitting = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            self.requested = True
            raise
        finally:
            self._admitting = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.requested and now - self._requested_at > PATIENCE_S
        if not self.requested:
            self.requested, self._requested_at = True, now
        if self._admitting or again:
            self._admitting = False
            raise KeyboardInterrupt

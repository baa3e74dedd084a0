"""Where text goes: results to stdout, everything else to stderr."""

import os

from rich.console import Console

PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe; rich would take 80 and fold it."""


def log_console() -> Console:
    """Progress and messages, so that stdout holds results alone."""
    return Console(stderr=True, highlight=False)


def result_console() -> Console:
    """Tables and other results."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console

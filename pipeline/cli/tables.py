"""Tables whose cells are never cut: not in a pipe, and not in a narrow window, which may scroll."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# Wider than any table here.
UNLIMITED = 10_000


def print_whole(table: Table) -> None:
    """Print `table` as wide as its cells are."""
    console = Console(highlight=False)
    # Without its own options a measurement ends at the window's width.
    measured = Measurement.get(console, console.options.update(max_width=UNLIMITED), table)
    console.width = max(1, measured.maximum)
    console.print(table, crop=False)

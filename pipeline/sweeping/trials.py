"""What a runner must know of how trials run: DVC's experiments, or a stand-in for them in tests."""

from typing import Protocol


class Trials(Protocol):
    """How trials run."""

    def command(self, name: str, options: list[str]) -> list[str]:
        """Return the command that runs trial `name` with "key=value" options."""
        ...

    def environment(self) -> dict[str, str]:
        """Return what the command's environment must have."""
        ...

    def is_apart(self, log: str) -> bool:
        """Return whether the one whose command has said `log` may be interrupted."""
        ...

    def is_set_up(self, log: str) -> bool:
        """Return whether another trial may start beside the one whose command has said `log`."""
        ...

    def is_ending(self, log: str) -> bool:
        """Return whether no other trial may start any more until the one that has said `log` has ended."""
        ...

    def result(self, name: str) -> float | None:
        """Return the perplexity of trial `name`, None if it has not ended well."""
        ...

    def names(self, label: str) -> list[str]:
        """Return the names of the trials of `label` that have a result."""
        ...

    def clean(self, name: str) -> None:
        """Remove what trial `name`, whose processes were killed, has left."""
        ...

"""The order of models in a comparison. Figures measured on different eval texts are never ranked against each other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.comparing.entries import Entry
from pipeline.tracking.local_registry import (
    CHAMPION,
    Registered,
    by_weights,
    local_versions,
    reason_of,
    registry_is_remote,
)

DIGITS = 8


@dataclass(frozen=True)
class Text:
    """Entries that were measured on the same eval text with the same window, the best first.

    Those whose eval text is not known, or without figures, have a group of their own (`eval_text` None).
    """

    eval_text: str | None
    window: int | None
    entries: list[Entry]

    @property
    def title(self) -> str:
        """What the entries have in common, in words."""
        if self.eval_text is None:
            return "eval text unknown: not ranked"
        sources = {str(one.params.get("data.source")).rpartition("/")[2] for one in self.entries}
        return f"eval text {self.eval_text[:DIGITS]} of {', '.join(sorted(sources))}, windows of {self.window}"


def by_text(entries: Iterable[Entry]) -> list[Text]:
    """Return `entries` in groups that can be ranked; the workspace's group comes first, then the largest."""
    groups: dict[tuple[str | None, int | None], list[Entry]] = {}
    for one in entries:
        known = one.eval_text is not None and one.perplexity is not None
        groups.setdefault((one.eval_text, one.window) if known else (None, None), []).append(one)
    texts = [
        Text(
            text,
            window,
            sorted(found, key=lambda one: float("inf") if one.perplexity is None or text is None else one.perplexity),
        )
        for (text, window), found in groups.items()
    ]
    return sorted(
        texts,
        key=lambda text: (text.eval_text is None, not any(one.is_here for one in text.entries), -len(text.entries)),
    )


def aliases(entries: Sequence[Entry], registered: Mapping[str, Registered]) -> dict[str, Registered]:
    """Return by entry name the version with an alias that has the entry's weights."""
    found = {one.name: registered.get(one.weights or "") for one in entries}
    return {name: version for name, version in found.items() if version is not None and version.alias}


def registered_versions() -> dict[str, Registered]:
    """Return the registered versions by the SHA-256 of their weights; asks MLflow only if the registry is a server.

    Whatever MLflow raises is passed on.
    """
    if not registry_is_remote():
        return local_versions()
    from pipeline.tracking.registry import WEIGHTS_TAG, versions  # these load MLflow
    from pipeline.tracking.store import open_store

    found = []
    with open_store() as (client, _):
        for model in client.search_registered_models():
            for one in versions(client, model.name):
                # "champion" before any other alias.
                alias = min(one.aliases, key=lambda name: (name != CHAMPION, name), default="")
                version = Registered(model.name, int(one.version), alias, reason_of(alias, one.tags))
                found.append((version, one.tags.get(WEIGHTS_TAG)))
    return by_weights(found)

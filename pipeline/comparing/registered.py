"""The registry as a comparison needs it, local or on a server."""

from pipeline.tracking.local_registry import Registered, by_weights, local_versions, reason_of, registry_is_remote


def registered_versions() -> dict[str, Registered]:
    """Return the registered versions by the SHA-256 of their weights; asks MLflow only if the registry is a server.

    Whatever MLflow raises is passed on.
    """
    if not registry_is_remote():
        return local_versions()
    from pipeline.tracking.registry import WEIGHTS_TAG, versions  # these load MLflow
    from pipeline.tracking.store import open_store

    with open_store() as (client, _):
        return by_weights(
            (
                Registered(
                    model.name, int(one.version), _first(one.aliases), reason_of(one.tags.get("gate", ""))
                ),
                one.tags.get(WEIGHTS_TAG),
            )
            for model in client.search_registered_models()
            for one in versions(client, model.name)
        )  # fmt: skip


def _first(aliases: list[str]) -> str:
    # Sorted, "champion" comes before "challenger" only if it is asked for first.
    return min(aliases, key=lambda alias: (alias != "champion", alias), default="")

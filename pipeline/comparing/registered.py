"""The registry as a comparison needs it, local or on a server."""

from pipeline.tracking.local_registry import (
    CHAMPION,
    Registered,
    by_weights,
    local_versions,
    reason_of,
    registry_is_remote,
)


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

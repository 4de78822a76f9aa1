"""The texts of a run as MLflow's datasets: their source, their hash as digest, and their sizes."""

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from pipeline.dataset.sides import NAMES
from pipeline.params.reader import PARAMS_FILE, read_yaml
from pipeline.tracking.records import Record

# MLflow allows 36 characters; the tag split.train_sha256 has all 64.
DIGEST_LENGTH = 36


def log_datasets(client: MlflowClient, run_id: str, split: Record, folder: Path) -> None:
    """Log the train, eval and test texts of the record of `split`; nothing for a text that it does not have."""
    params = read_yaml(folder / PARAMS_FILE)
    source = str(params["data"]["source"])
    inputs = [
        DatasetInput(
            Dataset(
                name=Path(source).name or source,
                digest=digest[:DIGEST_LENGTH],
                source_type="text",
                source=json.dumps(params["data"]),
                profile=json.dumps(_profile(split, side)),
            ),
            tags=[InputTag("mlflow.data.context", side)],
        )
        for side in NAMES
        if (digest := split.tags.get(f"split.{side}_sha256"))
    ]
    client.log_inputs(run_id, datasets=inputs)


def _profile(split: Record, side: str) -> dict[str, int]:
    """Return the sizes of a text, as far as the split has counted them."""
    sizes = {
        "characters": split.tags.get(f"split.{side}_chars"),
        "documents": split.tags.get(f"split.{side}_documents"),
        "dictionary_size": split.tags.get("split.dictionary_size"),
    }
    return {name: int(value) for name, value in sizes.items() if value is not None}

"""The identity of a measurement: what perplexities must have in common to be compared.

`evaluate` stores the record and its hash with its figures, and every place that compares figures compares the records:
the gate, `charlm promote`, `compare`, `report`, `sync` and sweeps. Figures without a record are never compared.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

Record = Mapping[str, Any]

# The keys in metrics/evaluate.json, and the tags of a registered version.
MEASUREMENT: Final = "measurement"
MEASUREMENT_ID: Final = "measurement_id"
# To be increased when the code measures otherwise in a way that no other entry of the record shows.
PROTOCOL = 1
ID_DIGITS, SHOWN_DIGITS = 16, 8
NAMES = {"eval_sha256": "eval text"}


def measurement(*, eval_sha256: str, window: int, unknown_chars: int) -> dict[str, Any]:
    """Return the record of the measurement of `perplexity`, as plain data.

    `unknown_chars` is the number of the eval text's characters that the dictionary lacks: these are easier to predict.
    A model is measured as a whole, so one with an n-gram model can be compared with one without.
    """
    return {
        "protocol": PROTOCOL,
        "eval_sha256": eval_sha256,
        "window": window,
        "unknown_chars": unknown_chars,
        "start": "zero state",
        "padding": "not counted",
        "precision": "float32",
        "least_probability": 1e-15,
        "measured": "the whole model: the network, with its n-gram model if it has one",
    }


def measurement_id(record: Record | None) -> str:
    """Return the record's hash as 16 hexadecimal digits, "" without a record."""
    if not record:
        return ""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:ID_DIGITS]


def record_in(figures: Mapping[str, Any]) -> Record | None:
    """Return the record among the figures of `evaluate`, or a version's tags (as JSON); None if there is none."""
    found = figures.get(MEASUREMENT)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            return None
    return found if isinstance(found, dict) and found else None


def difference(*records: Record | None) -> str:
    """Return in what the measurements differ, as in "window 100 against 400"; "" if they are known and the same."""
    known = [one for one in records if one]
    if len(known) < len(records):
        return "there is no record of how it was measured"
    keys = dict.fromkeys(key for one in known for key in one)
    values = {key: list(dict.fromkeys(_shown(key, one.get(key)) for one in known)) for key in keys}
    return ", ".join(f"{NAMES.get(key, key)} {' against '.join(few)}" for key, few in values.items() if len(few) > 1)


def _shown(key: str, value: Any) -> str:
    return str(value)[:SHOWN_DIGITS] if key == "eval_sha256" else str(value)

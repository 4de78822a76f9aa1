"""A run's note: the headline figures, what was changed, a sample; markdown, as MLflow's page shows it."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.files import read_json

SAMPLE_CHARS = 400


def note(folder: Path, *, stages: Collection[str], changed: str) -> str:
    """Return the note of the execution whose files lie in `folder`.

    Only of `stages`, those that it has done: the files of the others may be an earlier execution's.
    """
    evaluate = _read(folder / "metrics/evaluate.json") if "evaluate" in stages else None
    train = _read(folder / "metrics/train.json") if "train" in stages else None
    samples = _read(folder / "samples/samples.json") if "generate" in stages else None
    figures = []
    if evaluate:
        figures += [
            f"**perplexity {evaluate['perplexity']:.3f}**",
            *_baseline(evaluate),
            f"{evaluate['bits_per_char']:.3f} bits per character",
            f"accuracy {evaluate['accuracy']:.1%} of {evaluate['num_chars']:,} characters",
        ]
    if train:
        figures += [f"{train['parameters']:,} parameters", f"{train['seconds']:.0f} s of training"]
    parts = [" · ".join(figures), f"Changed against its baseline: {_code(changed)}" if changed else ""]
    if samples:
        chosen = next((one for one in samples if one["mode"] == "sampled"), samples[0])
        text = f"{chosen['prompt']}{chosen['completion']}"[:SAMPLE_CHARS]
        parts += [f"A sample, temperature {chosen['temperature']}:", _fenced(text)]
    return "\n\n".join(part for part in parts if part)


def _baseline(evaluate: dict[str, Any]) -> list[str]:
    found = evaluate.get("baseline_perplexity")
    return [] if found is None else [f"n-gram baseline {found:.3f} ({evaluate['baseline']})"]


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _fenced(text: str) -> str:
    longest = max((len(run) for run in text.split() if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None

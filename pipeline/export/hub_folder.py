"""Writes a model as a folder in the form that model hubs expect, with a model card; nothing in it is executable code.

model.safetensors    the network's weights, float32
ngram.safetensors    the n-gram model that helps it, if there is one
substrings.npy       hashes of a sample of the training text's substrings: charlm warns if an eval text repeats them
config.json          what determines the model's shape
dictionary.json      its characters
card.json            what is known about it, as data; `charlm import` registers it with the model
manifest.json        size and SHA-256 of each of these files
README.md            the model card, for people and for the hub (its front matter)
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.files import SUBSTRINGS, sha256_of, whole_folder, write_json
from pipeline.model.saved import CONFIG, DICTIONARY, HUB_WEIGHTS, NGRAM, WEIGHTS, SavedModel
from pipeline.serving.model_source import CARD

MANIFEST, README = "manifest.json", "README.md"
# The files of a model's folder, by their names in an exported one.
FILES = {HUB_WEIGHTS: WEIGHTS, CONFIG: CONFIG, DICTIONARY: DICTIONARY, NGRAM: NGRAM, SUBSTRINGS.name: SUBSTRINGS.name}
REQUIRED = (HUB_WEIGHTS, CONFIG, DICTIONARY)
COPIES = " A lower `ngram_weight` copies less. **`ngram.safetensors` contains the training text.**"
LIMITS = """\
The model knows only the characters below, and drops others from a prompt. It has learned spelling, words and style;
what it states is not true except by chance. It can repeat passages of its training text."""
MADE = """\
charlm's pipeline trained it (`dvc repro`). The same params and text give the same bytes on the same kind of machine;
`charlm verify` in the project that made it shows this."""
# Rows of the table of the training curve.
CURVE_ROWS = 10


def write_hub_folder(
    model: SavedModel,
    target: Path,
    *,
    card: Mapping[str, Any],
    samples: Sequence[tuple[str, str]],
    licence: str | None = None,
    substrings: Path | None = None,
) -> None:
    """Write `model` to the folder `target`, which is replaced completely or not at all.

    `card` is the model's (`load_served`), `samples` are settings and texts, `licence` is a hub's identifier such as
    "mit", `substrings` is the file of that name next to the model, if there is one. Raises OSError if the folder cannot
    be written.
    """
    with whole_folder(target) as part:
        model.save(part / "model")
        for name, own in FILES.items():
            if (part / "model" / own).exists():
                (part / "model" / own).rename(part / name)
        (part / "model").rmdir()
        if substrings is not None:
            shutil.copyfile(substrings, part / SUBSTRINGS.name)
        write_json(part / CARD, dict(card))
        manifest = {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(part.iterdir())
        }
        write_json(part / MANIFEST, manifest)
        (part / README).write_text(
            readme(card, samples=samples, licence=licence, weights_sha256=sha256_of(part / HUB_WEIGHTS)),
            encoding="utf-8",
        )


def readme(
    card: Mapping[str, Any], *, samples: Sequence[tuple[str, str]], licence: str | None, weights_sha256: str
) -> str:
    """Return the model card: front matter for the hub, then Markdown."""
    name = card["name"]
    sections = [
        _front_matter(card, licence),
        f"# {name}",
        _introduction(card),
        "## Figures",
        _figures(card),
        *(["## Samples", *(f"{settings}:\n\n{_quoted(text)}" for settings, text in samples)] if samples else []),
        "## How to use it",
        f"""\
With charlm, in a folder next to this one:

```bash
charlm generate "The " --model {name}
charlm import {name}          # registers it, then: --model models:/{name}@champion
```

```python
import charlm

model = charlm.load("{name}")
print(model.generate("The ", temperature=0.8, seed=7).text)
```""",
        "## Limits",
        LIMITS + (COPIES if card.get("ngram_order") else ""),
        f"Its {len(card['characters'])} characters: {_code(card['characters'])}",
        "## How it was made",
        _origin(card, weights_sha256),
    ]
    return "\n\n".join(sections) + "\n"


def _introduction(card: Mapping[str, Any]) -> str:
    ngram = ", and an n-gram model of the same text" if card.get("ngram_order") else ""
    return (
        f"A character-level language model of {card.get('corpus') or 'a text'}, made with charlm: {card['network']}, "
        f"{card['parameters']:,} parameters{ngram}. It continues a text character by character, in the style of the "
        "text that it was trained on."
    )


def _front_matter(card: Mapping[str, Any], licence: str | None) -> str:
    """Return the YAML block that hubs read; JSON's strings are YAML's as well."""
    lines = ["---"]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += ["library_name: charlm", "pipeline_tag: text-generation", "tags:", "- character-level", f"- {_cell(card)}"]
    if card.get("perplexity"):
        figures = [("Perplexity", card["perplexity"])]
        if card.get("baseline_perplexity"):
            figures.append((f"Perplexity of the baseline, {card['baseline']}", card["baseline_perplexity"]))
        lines += [
            "model-index:",
            f"- name: {json.dumps(card['name'], ensure_ascii=False)}",
            "  results:",
            "  - task:",
            "      type: text-generation",
            "    dataset:",
            "      type: text",
            f"      name: {json.dumps(_eval_text(card), ensure_ascii=False)}",
            "    metrics:",
        ]
        for title, value in figures:
            lines += ["    - type: perplexity", f"      name: {json.dumps(title)}", f"      value: {value}"]
    return "\n".join([*lines, "---"])


def _figures(card: Mapping[str, Any]) -> str:
    if not card.get("perplexity"):
        return "Not measured."
    rows = [("perplexity", f"{card['perplexity']:.3f}"), ("bits per character", f"{card['bits_per_char']:.3f}")]
    if card.get("baseline_perplexity"):
        rows.append((f"perplexity of the baseline, {card['baseline']}", f"{card['baseline_perplexity']:.3f}"))
    rows += [
        ("measured on", _eval_text(card)),
        ("trained on", f"{card['train_chars']:,} characters of {card['corpus']}"),
        ("parameters", f"{card['parameters']:,}"),
    ]
    points = [one for one in card.get("curve", []) if one.get("eval_perplexity")]
    shown = points[:: -(-len(points) // CURVE_ROWS) or 1]
    curve = [] if len(points) < 2 else ["", "Perplexity of the eval text while training:", ""]
    if curve:
        shown = shown if shown[-1] is points[-1] else [*shown, points[-1]]
        curve += _table(
            ("step", "seconds", "perplexity"),
            [(f"{one['step']:.0f}", f"{one['seconds']:.0f}", f"{one['eval_perplexity']:.3f}") for one in shown],
        )
    return "\n".join([*_table(("", ""), rows), *curve])


def _origin(card: Mapping[str, Any], weights_sha256: str) -> str:
    rows = [("SHA-256 of the weights", f"`{weights_sha256}`")]
    if card.get("version"):
        rows.append(("registered as", f"{card['name']} version {card['version']}"))
    rows += [(key, f"`{value}`") for key, value in sorted((card.get("params") or {}).items())]
    return "\n".join(
        [
            MADE,
            "",
            *_table(("", ""), rows),
        ]
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *(tuple(map(_cell_text, row)) for row in rows))
    ]


def _cell_text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _cell(card: Mapping[str, Any]) -> str:
    return str(card["network"]).partition(",")[0].lower()


def _eval_text(card: Mapping[str, Any]) -> str:
    digest = (card.get("eval_sha256") or "")[:12]
    return f"{card['eval_chars']:,} characters of {card['corpus']}" + (f" (SHA-256 {digest}…)" if digest else "")


def _quoted(text: str) -> str:
    """Return `text` as a code block, with a fence that it does not contain."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _code(characters: str) -> str:
    """Return characters as code: what cannot be seen, as escapes."""
    shown = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in characters)
    ticks = "``" if "`" in shown else "`"
    return f"{ticks} {shown} {ticks}"

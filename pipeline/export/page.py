"""Writes a model and the page of `charlm serve` as one HTML file, which runs the model in the browser.

The page's modules are those of the server (`pipeline/serving/page`), except for `model.js`: the server's asks its API,
the one here a worker that has the model. All modules become one script, so that nothing is loaded from anywhere.
"""

import base64
import hashlib
import html
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import pipeline.serving
from pipeline.core.errors import UserError
from pipeline.core.files import DICTIONARY, SPLITS, whole_file
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.export.payload import BASE64, Format, payload_of, perplexity, rounded, samples_of, with_ngram_of
from pipeline.model.saved import OWN_MODEL, SavedModel
from pipeline.params.sampling import sampling_options
from pipeline.serving.completions import Limits
from pipeline.serving.model_source import Located, card_at
from pipeline.tracking.project import project_root

OWN, SERVED = Path(__file__).with_name("page"), Path(pipeline.serving.__file__).with_name("page")
# `import { a, b } from "./c.js";` and what is exported, as the page's modules write it.
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./([\w-]+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?function\*?|class|const) (\w+)", re.MULTILINE)
# The page may run its own script, the worker that it makes, and the worker's WebAssembly; it may request nothing.
POLICY = (
    "default-src 'none'; script-src '{script}' 'wasm-unsafe-eval'; style-src '{style}'; worker-src blob:; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)


# int8 is used if it raises the perplexity by no more than this share.
MOST_COST = 0.005
# The most ids of the eval text that a page's model is measured on.
MEASURED = 20_000


@dataclass(frozen=True)
class Exported:
    """What was written: sizes in bytes, and the perplexities of the model and of the page's model.

    `ngram_chars` of the `ngram_of` characters that the n-gram model counted are in the page. The costs are the shares
    by which the weights' format and the smaller n-gram model raise the perplexity, measured on `measured` characters of
    `text`.
    """

    size: int
    network: int
    ngram: int
    weights: Format
    weights_cost: float
    ngram_cost: float
    ngram_chars: int
    ngram_of: int
    own: float
    perplexity: float
    measured: int
    text: str


def export_page(
    found: Located, path: Path, *, weights: Format | None, ngram_bytes: int, title: str, prompt: str
) -> Exported:
    """Write the page of the model at `found`; `path` is written completely or not at all.

    `weights` None is int8, or bf16 if int8 costs more than MOST_COST. The n-gram model takes at most `ngram_bytes`.
    `prompt` is the text in the page's field at first, unless the model lacks some of its characters. UserError if the
    model cannot be read or the file cannot be written.
    """
    model = SavedModel.load(found.folder)
    smaller = with_ngram_of(model, ngram_bytes)
    texts, name = _eval_text(found, model), "its eval text"
    if texts is None:
        texts, name = samples_of(model), "text that it wrote"
    own = perplexity(model, texts)
    form: Format = weights or "int8"
    rounded_only = perplexity(rounded(model, form), texts)
    if weights is None and rounded_only > own * (1 + MOST_COST):
        form = "bf16"
        rounded_only = perplexity(rounded(model, form), texts)
    on_page = rounded_only if smaller is model else perplexity(rounded(smaller, form), texts)
    card = card_at(found, model) | {"ngram_order": smaller.config.ngram_order}
    known = set(prompt) <= set(model.dictionary.characters)
    payload = payload_of(smaller, form, card=card, options=_options())
    content = page_of(payload.data, title=title, prompt=prompt if known else "").encode()
    with whole_file(path) as part:
        part.write_bytes(content)
    ngram = int(payload.ngram_bytes * BASE64)
    return Exported(
        size=len(content),
        network=int(len(payload.data) * BASE64) - ngram,
        ngram=ngram,
        weights=form,
        weights_cost=rounded_only / own - 1,
        ngram_cost=on_page / rounded_only - 1,
        ngram_chars=0 if smaller.ngram is None else len(smaller.ngram.trie.text),
        ngram_of=0 if model.ngram is None else len(model.ngram.trie.text),
        own=own,
        perplexity=on_page,
        measured=sum(len(ids) - 1 for ids in texts),
        text=name,
    )


def _eval_text(found: Located, model: SavedModel) -> list[npt.NDArray[np.int64]] | None:
    """Return the start of the model's eval text as `perplexity` reads it; None if `found` is not the last run's."""
    root = project_root()
    if found.folder.resolve() != root / OWN_MODEL:
        return None
    try:
        split = load_split(root / SPLITS / "eval")
        if Dictionary.load(root / DICTIONARY) != model.dictionary:
            return None
    except UserError:
        return None
    ids = np.asarray(split.ids[:MEASURED], dtype=np.int64)
    starts = [0] if split.documents is None else split.documents[split.documents < len(ids)].tolist()
    return [ids[start:stop] for start, stop in pairwise([*starts, len(ids)])]


def _options() -> dict[str, dict[str, Any]]:
    """Return the numeric options of a request, with their defaults and bounds."""
    options = {}
    for name, option in sampling_options().items():
        if option.low is None:
            continue
        field = "max_tokens" if name == "max_new_chars" else name
        high = Limits().max_tokens if field == "max_tokens" else option.high
        options[field] = {
            "start": option.default,
            "low": option.low,
            "high": high,
            "lowAllowed": option.low_allowed,
            "allowed": option.allowed.replace(f"{option.high:g}", f"{high:g}"),
        }
    return options


def page_of(payload: bytes, *, title: str, prompt: str) -> str:
    """Return the page as one file, with the payload in it."""
    style = (SERVED / "style.css").read_text(encoding="utf-8")
    script, worker = bundle("app"), bundle("worker")
    policy = POLICY.format(script=_hash_of(script), style=_hash_of(style))
    data = base64.b64encode(payload).decode()
    return _replaced(
        (SERVED / "index.html").read_text(encoding="utf-8"),
        {
            '<meta charset="utf-8">': (
                f'<meta charset="utf-8">\n  <meta http-equiv="Content-Security-Policy" content="{policy}">'
            ),
            '<link rel="stylesheet" href="/page/style.css">': f"<style>{style}</style>",
            '  <script type="module" src="/page/app.js"></script>\n': "",
            "<title>charlm playground</title>": f"<title>{html.escape(title)}</title>",
            "<h1>charlm</h1>": f"<h1>{html.escape(title)}</h1>",
            "one character after another.</p>": (
                "one character after another. It runs in this page: nothing is sent anywhere.</p>"
            ),
            ">The United States are</textarea>": f">{html.escape(prompt)}</textarea>",
            "</body>": (
                f'<script type="text/plain" id="worker">{worker}</script>\n'
                f'<script type="application/octet-stream" id="payload">{data}</script>\n'
                f'<script type="module">{script}</script>\n</body>'
            ),
        },
    )


def _replaced(page: str, parts: dict[str, str]) -> str:
    for old, new in parts.items():
        if page.count(old) != 1:
            raise ValueError(f"index.html: found {old} {page.count(old)} times, expected once")
        page = page.replace(old, new)
    return page


def _hash_of(content: str) -> str:
    """Return what allows an inline script or style with this content, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def bundle(entry: str) -> str:
    """Return the module `entry` and all that it imports as one script: each is a function that returns its exports."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        path = next(one for folder in (OWN, SERVED) if (one := folder / f"{name}.js").exists())
        source = path.read_text(encoding="utf-8")
        done[name] = ""  # its place, for modules that import each other
        for _, other in IMPORT.findall(source):
            if other not in done:
                add(other)
        del done[name]
        exported = ", ".join(name for _, name in EXPORT.findall(source))
        source = EXPORT.sub(
            r"\1 \2", IMPORT.sub(lambda found: f"const {{ {found[1]} }} = {_name(found[2])};\n", source)
        )
        done[name] = f'const {_name(name)} = (() => {{\n"use strict";\n{source}return {{ {exported} }};\n}})();\n'

    add(entry)
    return "".join(done.values())


def _name(module: str) -> str:
    return f"${module.replace('-', '_')}"

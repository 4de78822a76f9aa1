"""validate: checks the data before training, and stops the pipeline with one line if an expectation fails.

Some expectations only warn, and so does drift from the champion's text.
"""

import shutil
from dataclasses import asdict

import typer

from pipeline.core.errors import UserError
from pipeline.core.files import (
    ALPHABET,
    CLEAN,
    DATA_DOCS,
    DICTIONARY,
    SPLITS,
    START,
    SUBSTRINGS,
    VALIDATED,
    VALIDATION,
    metrics_of,
    write_json,
)
from pipeline.dataset.arrays import count_ids
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.sides import NAMES
from pipeline.dataset.splits import load_split
from pipeline.params.reader import read_group
from pipeline.params.text import SplitParams, ValidateParams
from pipeline.params.training import EvaluateParams, TrainParams
from pipeline.text.shards import read_batches, read_shard, shards_in
from pipeline.tracking.stage import StageRun, stage
from pipeline.validation.comparisons import (
    copied_documents,
    drift,
    estimated_overlap,
    load_sketch,
    overlap,
    read_alphabet,
    save_sketch,
    sketch,
    write_alphabet,
)
from pipeline.validation.contracts import Bounds, contracts
from pipeline.validation.coverage import cover
from pipeline.validation.expectations import check, format_failures, format_warnings
from pipeline.validation.facts import (
    COLUMNS,
    bucket_facts,
    dictionary_facts,
    document_facts,
    size_of,
    split_facts,
    text_facts,
)

SHOWN_CHARACTERS = 8


def main() -> None:
    with stage("validate") as run:
        params = read_group("validate", ValidateParams)
        split_params, train_params = read_group("split", SplitParams), read_group("train", TrainParams)
        VALIDATED.unlink(missing_ok=True)
        dictionary = Dictionary.load(DICTIONARY)
        splits = {name: load_split(SPLITS / name) for name in NAMES if name != "test" or (SPLITS / name).exists()}
        counts = {name: count_ids(split.ids, len(dictionary)) for name, split in splits.items()}
        covered = {name: cover(split, dictionary) for name, split in splits.items()}
        train = splits["train"].ids
        overlaps = {name: overlap(splits[name].ids, train, dictionary) for name in splits if name != "train"}
        documents = document_facts((path.name, read_shard(path, COLUMNS)) for path in shards_in(CLEAN))
        size = size_of(documents)
        copies = copied_documents(read_batches(CLEAN), split_params, total=size.chars)
        tables = {
            "documents": documents,
            "text": text_facts(size, splits, split_params),
            "dictionary": dictionary_facts(dictionary, counts),
            "splits": split_facts(splits, counts, covered, overlaps, copies=copies, size=size, params=split_params),
            "buckets": bucket_facts(splits, covered),
        }
        bounds = Bounds(
            dictionary_size=len(dictionary),
            batch_size=train_params.batch_size,
            window=read_group("evaluate", EvaluateParams).window,
            warn_overlap=params.warn_overlap,
            max_overlap=params.max_overlap,
        )
        shutil.rmtree(DATA_DOCS, ignore_errors=True)
        docs = DATA_DOCS if params.data_docs else None
        outcomes = check(tables, contracts(bounds), fail_on=params.fail_on, data_docs=docs)
        stopped, warned = format_failures(outcomes), format_warnings(outcomes)
        expectations = [asdict(outcome) for outcome in outcomes]
        write_json(VALIDATION, {"passed": stopped is None, "expectations": expectations})
        failed = sum(outcome.stops and not outcome.passed for outcome in outcomes)
        figures = {"expectations": len(outcomes), "failed": failed, "warned": len(warned)}
        shares = {name: round(share, 6) for name, share in overlaps.items()}
        known = load_sketch(START / SUBSTRINGS.name)
        save_sketch(SUBSTRINGS, sketch(train, dictionary, base=known))
        start_shares = {}
        if known is not None:
            texts = {name: split.ids for name, split in splits.items() if name != "train"}
            found = {name: estimated_overlap(ids, dictionary, known) for name, ids in texts.items()}
            start_shares = {"start_overlap": {name: round(share, 6) for name, share in found.items()}}
        write_json(metrics_of("validate"), figures | {"overlap": shares} | start_shares)
        write_alphabet(ALPHABET, dictionary, counts)
        for line in warned:
            run.say(line)
        if stopped:
            raise UserError(stopped)
        if train_params.start_from is not None:
            check_start(run, train_params.start_from, dictionary, start_shares.get("start_overlap"), params)
        warn_of_drift(run, params.max_drift)
        write_json(VALIDATED, {"passed": True})


def check_start(
    run: StageRun, address: str, dictionary: Dictionary, shares: dict[str, float] | None, params: ValidateParams
) -> None:
    """Refuse a start model that knows no character of the text, or that was trained on most of the eval text.

    `shares` are the estimated overlaps of the eval and test texts with that model's training text, None if its folder
    does not have them: then, and above validate.warn_overlap, a warning.
    """
    known = Dictionary.load(START / DICTIONARY.name)
    if not set(known.characters) & set(dictionary.characters):
        theirs, own = ("".join(one.characters[:SHOWN_CHARACTERS]) for one in (known, dictionary))
        raise UserError(
            f"train.start_from: {address} and the text have no character in common: found {theirs!r}… there and "
            f"{own!r}… in the text; allowed is a model of the same script"
        )
    if shares is None:
        run.say(
            f"warning: the training text of the start model {address} is not known ({SUBSTRINGS.name} is not in its "
            "folder), so it may contain the eval text; the perplexity would be too low"
        )
    for name, share in (shares or {}).items():
        found = f"about {share:.1%} of the {name} text occurs in the training text of the start model {address}"
        if share > params.max_overlap:
            raise UserError(
                f"train.start_from: {found}, so the perplexity would measure memorisation; allowed is at most "
                f"{params.max_overlap:.0%} (validate.max_overlap)"
            )
        if share > params.warn_overlap:
            run.say(f"warning: {found}; the perplexity is somewhat too low (validate.warn_overlap)")


def warn_of_drift(run: StageRun, max_drift: float) -> None:
    """Warn if the text's character frequencies differ from those of the champion's text.

    This only prints and tags: no output depends on the registry.
    """
    if (champion := run.champion_artifact(ALPHABET)) is None:
        return
    try:
        own = read_alphabet(ALPHABET.read_text(encoding="utf-8").splitlines())
        found = drift(read_alphabet(champion.text.splitlines()), own)
    except UserError as error:
        run.say(f"warning: the champion's {ALPHABET.name} could not be read: {error}")
        return
    run.tag("drift", f"{found.format()}, from champion version {champion.version}'s")
    if found.exceeds(max_drift):
        run.say(
            f"warning: the text drifted from champion version {champion.version}'s: {found.format()} "
            f"(validate.max_drift {max_drift:g})"
        )


if __name__ == "__main__":
    typer.run(main)

"""Texts in many scripts and formats, from the source to a model that generates, without DVC."""

import json

import pytest
import torch

from pipeline.cleaning.clean_documents import clean_documents
from pipeline.dataset.build_splits import build_splits
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.generation.text import Writer
from pipeline.model.network import CharNetwork, initialise
from pipeline.model.saved import NetworkConfig, SavedModel
from pipeline.params.sampling import Sampling
from pipeline.params.text import CleanParams, DataParams, SplitParams
from pipeline.params.training import TrainParams
from pipeline.sources.reading import open_documents
from pipeline.text.shards import read_batches, shard_writer
from pipeline.training.loop import Trainer
from pipeline.training.setup import make_deterministic

UNICODE = {"charset": "unicode"}
GREEK = "Μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος οὐλομένην, ἣ μυρί᾽ Ἀχαιοῖς ἄλγε᾽ ἔθηκε.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n"
CHINESE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？\n"
EMOJI = "Good morning ☀️ have a nice day 👩‍🚀👨‍👩‍👧‍👦🏳️‍🌈 see you 👍🏽 at 10️⃣ 🇬🇷!\n"
CODE = "def spin(times: int) -> None:\n\tfor _ in range(times):\n\t\tprint('|', end='\\r')\n\n\nspin(3)\n"
TEXTS = {
    "greek": (GREEK, "utf-8", UNICODE),
    "russian": (RUSSIAN, "cp1251", UNICODE),
    "russian spelt in ASCII": (RUSSIAN, "utf-8", {}),
    "chinese": (CHINESE, "utf-16", UNICODE),
    "emoji": (EMOJI, "utf-8", UNICODE),
    "code": (CODE, "utf-8", UNICODE | {"keep_tabs": True}),
}


def prepare(folder, data, clean, split):
    """Ingest, clean and split a source under `folder`; return the split's figures."""
    for name in ("documents", "clean", "split"):
        (folder / name).mkdir()
    documents = open_documents(DataParams(**data), root=folder, cache=folder / "cache")
    with shard_writer(folder / "documents", documents.schema) as writer:
        for batch in documents:
            writer.write(batch)
    clean_documents(folder / "documents", folder / "clean", CleanParams(**clean))
    return build_splits(lambda columns: read_batches(folder / "clean", columns), folder / "split", SplitParams(**split))


def train(folder, *, epochs):
    """Train a small network on the split; return its writer and the eval perplexity."""
    make_deterministic(threads=1)
    dictionary = Dictionary.load(folder / "split/dictionary.json")
    config = NetworkConfig(
        cell="lstm", num_layers=1, num_hidden=48, num_embed=16, dropout=0.0, vocab_size=len(dictionary)
    )
    network = CharNetwork(config)
    initialise(network, magnitude=3.0, generator=torch.Generator().manual_seed(1))
    params = TrainParams.model_validate({"epochs": epochs, "batch_size": 8, "optimizer": {"lr": 0.01}})
    trainer = Trainer(
        network,
        train=load_split(folder / "split/train"),
        evaluation=load_split(folder / "split/eval"),
        params=params,
        window=50,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    reports = list(trainer.run())
    model = SavedModel(config=config, weights=trainer.best, dictionary=dictionary)
    return Writer(model, threads=1), reports[-1].eval_perplexity


@pytest.mark.parametrize("name", TEXTS)
def test_a_model_reproduces_a_text_of_any_script(tmp_path, name):
    text, encoding, clean = TEXTS[name]
    (tmp_path / "text.txt").write_bytes((text * 40).encode(encoding))
    prepare(tmp_path, {"source": "text.txt", "encoding": encoding}, clean, {"buckets": (32,)})
    kept = Dictionary.load(tmp_path / "split/dictionary.json").decode(load_split(tmp_path / "split/eval").ids)
    if clean:  # with charset unicode, cleaning changes nothing
        assert kept in text * 40
    writer, perplexity = train(tmp_path, epochs=25)
    assert perplexity < 1.5
    start = kept[:24]
    done = writer.complete(start, Sampling(max_new_chars=60, temperature=0))
    assert not done.warnings
    assert done.text[:60] in (kept + kept + kept)


def test_a_model_of_table_rows_ends_its_texts_by_itself(tmp_path):
    """A CSV of short texts, as documents with automatic buckets."""
    rows = ["yes, please", "no", "not now, maybe later", "ask again"]
    lines = [f'{number},"{rows[number % 4]} {number % 10}",{2000 + number % 20}' for number in range(400)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,answer,year", *lines]))
    figures = prepare(
        tmp_path,
        {"source": "rows.csv", "text_column": "answer", "id_column": "id", "metadata": ("year",)},
        {"duplicates": "keep"},
        {"samples": "documents", "buckets": "auto", "by": "column", "column": "year", "train_until": 2017},
    )
    assert figures["padding"] <= 0.05
    assert (figures["train_documents"], figures["eval_documents"]) == (360, 40)
    writer, perplexity = train(tmp_path, epochs=20)
    assert perplexity < 1.8
    texts = writer.generate([""] * 20, [Sampling(max_new_chars=80, temperature=0.7, seed=seed) for seed in range(20)])
    assert {text.finish_reason for text in texts} == {"stop"}
    written = [text.completion.rstrip("0123456789 ") for text in texts]
    assert sum(text in rows for text in written) > 15
    assert len(set(written)) > 1


def test_duplicates_are_not_in_both_splits(tmp_path):
    texts = [f"message number {number % 50}" for number in range(100)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    figures = prepare(
        tmp_path, {"source": "rows.jsonl"}, {}, {"samples": "documents", "buckets": (30,), "by": "document"}
    )
    assert figures["train_documents"] + figures["eval_documents"] == 50

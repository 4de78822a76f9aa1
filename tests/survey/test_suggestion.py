"""Suggested params are tried: what they make of a text passes validate's checks, or the reason is given."""

import random

import pytest
from support.speeches import speeches, wrapped
from support.tables import tables

from pipeline.params.reader import read_yaml
from pipeline.survey.suggestion import suggest
from pipeline.survey.survey import survey
from pipeline.text.shards import shard_writer


@pytest.fixture
def suggested(tmp_path, request):
    values = read_yaml(request.config.rootpath / "params.yaml")

    def suggested(*texts, **changed):
        documents, scratch = tmp_path / "documents", tmp_path / "scratch"
        for folder in (documents, scratch):
            folder.mkdir()
        batches = list(tables(*texts)())
        schema = batches[0].schema.remove(batches[0].schema.get_field_index("chars"))
        with shard_writer(documents, schema) as writer:
            for batch in batches:
                writer.write(batch.select(schema.names))
        own = values | {group: values[group] | change for group, change in changed.items()}
        given = {f"{group}.{key}" for group, change in changed.items() for key in change}
        found = suggest(survey(tables(*texts)()), documents, scratch, own, given=given)
        assert [path.name for path in scratch.iterdir()] == ["clean"]
        return found, {one.key: one.value for one in found.advice}

    return suggested


def words(count, seed=1):
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghij", k=draw.randint(2, 9))) for _ in range(count))


def test_the_overlap_is_that_of_the_text_as_it_will_be_cleaned(suggested):
    text = speeches()
    found, advice = suggested(wrapped(text))
    assert advice["clean.keep_newlines"] == "false"
    assert found.problem is None
    assert found.trial.chars == {"train": round(len(text) * 0.9), "eval": len(text) - round(len(text) * 0.9)}
    # Phrases of about 110 characters after every 60 words: their substrings of 50 are about a tenth of the text.
    assert 0.05 < found.trial.overlap["eval"] < 0.2


def test_wrapped_lines_hide_what_is_repeated(suggested):
    found, _ = suggested(wrapped(speeches()), clean={"keep_newlines": True})
    assert found.trial.overlap["eval"] < 0.1


def test_a_text_that_only_repeats_itself_has_no_split_that_passes(suggested):
    found, _ = suggested(words(300) * 20)
    assert found.trial.overlap["eval"] > 0.99
    assert "of the eval text occurs in the training text, allowed is 50% (validate.max_overlap)" in found.problem


def test_another_split_is_suggested_if_it_copies_less(suggested):
    # The last tenth are copies with another ending, of documents that are train by position.
    originals = [words(60, seed=number) for number in range(40)]
    texts = [*originals, *(f"{text} {number}" for number, text in enumerate(originals[:4]))]
    found, advice = suggested(*texts, split={"samples": "stream"})
    assert advice["split.by"] == "document"
    assert found.problem is None
    assert max(found.trial.overlap.values()) <= 0.5


def test_the_users_choice_stays_whatever_comes_of_it(suggested):
    originals = [words(60, seed=number) for number in range(40)]
    texts = [*originals, *(f"{text} {number}" for number, text in enumerate(originals[:4]))]
    found, advice = suggested(*texts, split={"by": "position"})
    assert "split.by" not in advice
    assert "of the eval text occurs in the training text" in found.problem


def test_documents_on_both_sides_are_a_problem(suggested):
    found, _ = suggested(*[words(20)] * 60, clean={"duplicates": "keep"}, split={"by": "document"})
    assert "eval documents are in the training text too (clean.duplicates: drop removes them)" in found.problem


def test_a_short_text_gets_more_eval_text_and_a_smaller_batch(suggested):
    found, advice = suggested(words(130))
    assert found.problem is None
    assert float(advice["split.train_fraction"]) < 0.9
    assert found.trial.chars["eval"] > 100
    assert int(advice["train.batch_size"]) == found.trial.samples["train"] < 32


def test_a_shorter_text_gets_a_shorter_window(suggested):
    found, advice = suggested(words(20))
    assert found.problem is None
    assert int(advice["evaluate.window"]) < 100


def test_a_text_that_cannot_be_split_is_a_problem(suggested):
    found, _ = suggested("ab")
    assert found.trial is None
    assert "leaves" in found.problem


def test_lines_need_newlines(suggested):
    found, advice = suggested(wrapped(speeches(words=2000)), split={"samples": "lines"})
    assert "clean.keep_newlines" not in advice
    assert found.trial is not None

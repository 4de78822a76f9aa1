"""The generate stage with an existing split and model, without MLflow."""

from contextlib import nullcontext

import numpy as np
import pytest
from support.models import random_model

from pipeline.core.files import read_json
from stages import generate

DOCUMENTS = ["abc def", "he had a bag", "a bad cab"] * 50


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generate, "stage", nullcontext)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "params.yaml").write_text(
        "generate: {prompts: [abc, had], num_chars: 60, num_samples: 12, temperature: 1.0}\n", encoding="utf-8"
    )
    return tmp_path


def write(project, model, text_ids):
    model.save(project / "models/charlm")
    (project / "data/split/train").mkdir(parents=True)
    model.dictionary.save(project / "data/split/dictionary.json")
    np.save(project / "data/split/train/ids.npy", np.array(text_ids, dtype=model.dictionary.dtype))


def test_samples_of_a_model_with_an_end_symbol(project):
    model = random_model(bounded=True, unknown=True, ending=-0.5)
    dictionary = model.dictionary
    write(
        project, model, [i for text in DOCUMENTS for i in (dictionary.begin, *dictionary.encode(text), dictionary.end)]
    )
    generate.main()
    samples = read_json(project / "samples/samples.json")
    figures = read_json(project / "metrics/generate.json")
    assert [(one["mode"], one["prompt"]) for one in samples] == [
        (mode, prompt) for prompt in ("abc", "had") for mode in ("greedy", *["sampled"] * 12)
    ]
    sampled = [one for one in samples if one["mode"] == "sampled"]
    ended = [one for one in sampled if one["finish_reason"] == "stop"]
    assert ended
    assert figures["sampled"]["ended"] == len(ended) / 24
    long = [one for one in sampled if len(one["completion"]) >= 30]
    assert 0 < len(long) < 24
    assert {one["copied"] for one in sampled if one not in long} == {None}
    assert figures["sampled"]["copied"] == sum(one["copied"] for one in long) / len(long)
    text = (project / "samples/samples.txt").read_text(encoding="utf-8")
    assert text.count(", ended by itself\n") == sum(one["finish_reason"] == "stop" for one in samples)


def test_samples_of_a_stream_model_have_no_finish_reason(project):
    model = random_model()
    write(project, model, model.dictionary.encode("\n".join(DOCUMENTS)))
    generate.main()
    assert "finish_reason" not in read_json(project / "samples/samples.json")[0]
    assert set(read_json(project / "metrics/generate.json")["greedy"]) == {
        "known_words",
        "longest_repeat",
        "copied",
    }
    first = (project / "samples/samples.txt").read_bytes()
    generate.main()
    assert (project / "samples/samples.txt").read_bytes() == first

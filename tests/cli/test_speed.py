import time

import pytest

from pipeline.cli.speed import FEWEST, MOST, training_speeds
from pipeline.params.reader import read_group
from pipeline.params.training import ModelParams, TrainParams


@pytest.fixture
def params(request):
    path = request.config.rootpath / "params.yaml"
    return ModelParams(num_hidden=8, num_embed=4), read_group("train", TrainParams, path)


@pytest.mark.parametrize(("most_seconds", "repetitions"), [(60.0, MOST), (0.0, FEWEST)])
def test_it_is_the_slowest_and_the_fastest_of_several_repetitions(params, most_seconds, repetitions):
    started = time.perf_counter()
    low, high = training_speeds(*params, vocab_size=20, bucket=20, repetition_seconds=0.05, most_seconds=most_seconds)
    assert 0 < low <= high
    assert time.perf_counter() - started >= 0.05 * repetitions

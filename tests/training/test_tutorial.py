"""plots/tutorial.csv, the tutorial's own curve."""

from pipeline.cli.experiments import read_preset
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.curve import is_tutorial, write_tutorial


def params_of(name):
    params = read_preset(name).params
    return ModelParams.model_validate(params["model"]), TrainParams.model_validate(params["train"])


def test_only_the_tutorials_preset_is_compared_with_the_tutorial(tmp_path):
    assert is_tutorial(*params_of("tutorial"))
    assert not any(is_tutorial(*params_of(name)) for name in ("quick", "best", "tiny"))
    write_tutorial(tmp_path / "a.csv", compare=True)
    assert (tmp_path / "a.csv").read_text().splitlines()[1::4] == ["1,4.92", "5,3.9"]
    write_tutorial(tmp_path / "b.csv", compare=False)
    assert (tmp_path / "b.csv").read_text() == "epoch,tutorial_eval_perplexity\n"

"""The validate stage compares the eval text with the training text of the model that training starts from."""

from pipeline.core.files import read_json
from pipeline.dataset.dictionary import Dictionary
from pipeline.validation.comparisons import load_sketch, save_sketch, sketch


def start_from(project, text=None):
    """Let the project start from a model; `text`, ids of the project's, is what that one was trained on."""
    project.params["train"]["start_from"] = "base"
    dictionary = Dictionary.load(project.folder / "data/split/dictionary.json")
    (project.folder / "data/start").mkdir()
    dictionary.save(project.folder / "data/start/dictionary.json")
    if text is not None:
        save_sketch(project.folder / "data/start/substrings.npy", sketch(text, dictionary))


def test_the_start_models_text_is_compared_with_the_eval_text(make, capsys):
    project = make("stream")
    start_from(project, project.array("eval/ids.npy"))
    assert project.failed() == []
    assert project.line.startswith("train.start_from: about 100.0% of the eval text occurs in the training text of the")
    assert project.line.endswith("allowed is at most 50% (validate.max_overlap)")
    assert read_json(project.folder / "metrics/validate.json")["start_overlap"] == {"eval": 1.0}
    project.params["validate"]["max_overlap"] = 1.0
    project.failed()
    assert "warning: about 100.0% of the eval text occurs in the training text of the start model base;" in (
        capsys.readouterr().err
    )


def test_other_text_of_the_start_model_is_no_finding(make, capsys):
    project = make("stream")
    text = project.array("train/ids.npy")
    start_from(project, text)
    assert project.failed() == []
    assert capsys.readouterr().err == ""
    own = load_sketch(project.folder / "data/substrings.npy")
    assert own.tolist() == sketch(text, Dictionary.load(project.folder / "data/split/dictionary.json")).tolist()


def test_a_start_model_whose_text_is_not_known_is_a_warning(make, capsys):
    project = make("stream")
    start_from(project)
    assert project.failed() == []
    assert "warning: the training text of the start model base is not known" in capsys.readouterr().err

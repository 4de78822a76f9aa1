import pytest

from pipeline.core.errors import UserError
from pipeline.params.generation import RegisterParams, registered_name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sotu", "charlm"),
        ("obama.txt", "charlm-obama"),
        ("/my/Mes Discours été.TXT", "charlm-mes-discours-ete"),
        ("docs/**/*.md", "charlm-docs"),
        ("data/part-*.txt", "charlm-part"),
        ("https://example.org/a/speech.csv.gz?x=1", "charlm-speech"),
        ("my/texts/", "charlm-texts"),
        ("*.txt", "charlm-text"),
        ("x" * 200, "charlm-" + "x" * 93),
    ],
)
def test_each_text_has_its_own_registered_name(source, name):
    assert RegisterParams().name_for(source) == name
    assert RegisterParams(model_name=name).name_for("another") == name


def test_the_name_of_a_params_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("data: {source: obama.txt}\nregister: {}\n")
    assert registered_name(path) == "charlm-obama"
    path.write_text("register: {model_name: mine}\n")
    assert registered_name(path) == "mine"
    path.write_text("register: {model_name: auto}\n")
    with pytest.raises(UserError, match="'data' is missing"):
        registered_name(path)

import subprocess

import pytest

from pipeline.core.errors import UserError
from pipeline.tracking import refused_options
from pipeline.tracking.refused_options import ACCEPTED, key_of, options_of, undo_options_if_refused, with_values_of

TEXT = b"""# Every knob.
model:
    cell: lstm  # or gru
    num_hidden: 384
train: {epochs: 3.5, seed: 7}
"""


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("dvc exp run -S a.b=1 --set-param c=[1,2]", ["a.b=1", "c=[1,2]"]),
        ("python /bin/dvc exp run -Sa.b=1 -n name --set-param=c=x=y evaluate", ["a.b=1", "c=x=y"]),
        ("dvc exp run -S params.yaml:a.b=1 -S other.yaml:c=2 -S url=https://x", ["a.b=1", "url=https://x"]),
        ("dvc exp run -S +a.b=1 -S ~c", ["+a.b=1", "~c"]),
        ("dvc exp run --temp", []),
        ("dvc repro -S a.b=1", []),
        ("bash", []),
    ],
)
def test_options_are_read_from_the_command_line(command, options):
    assert options_of(command.split()) == options


def test_the_keys_of_options_are_found():
    assert [key_of(option) for option in ("a.b=1", "+a.b=1", "++a=x=y", "~c")] == ["a.b", "a.b", "a", "c"]


def test_only_the_values_of_the_options_are_undone():
    now = TEXT.replace(b"384", b"abc").replace(b"seed: 7", b"seed: 8").replace(b"or gru", b"mine")
    changed = with_values_of(TEXT, now + b"wrong: 1\n", ["model.num_hidden", "wrong", "gone.key"])
    assert b"num_hidden: 384" in changed
    assert b"# mine" in changed
    assert b"seed: 8" in changed
    assert b"wrong" not in changed


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("DVC_EXP_NAME", "some-name")
    (tmp_path / "params.yaml").write_bytes(TEXT)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "params.yaml"], check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "x"], check=True)
    return tmp_path


def refuse(monkeypatch, project, *options):
    """Do what DVC does with -S `options` before `source` runs, and refuse the result."""
    from dvc.utils.hydra import apply_overrides

    apply_overrides(str(project / "params.yaml"), list(options))
    words = [word for option in options for word in ("-S", option)]
    monkeypatch.setattr(refused_options, "_command_line", lambda: ["dvc", "exp", "run", *words])
    with pytest.raises(UserError) as caught, undo_options_if_refused():
        raise UserError("refused")
    return getattr(caught.value, "__notes__", [])


def test_a_refused_value_restores_the_file_of_the_commit(project, monkeypatch):
    notes = refuse(monkeypatch, project, "model.num_hidden=abc")
    assert (project / "params.yaml").read_bytes() == TEXT
    assert notes == ["params.yaml is as it was before -S model.num_hidden=abc"]


def test_a_refused_value_restores_the_last_accepted_file(project, monkeypatch):
    mine = TEXT.replace(b"384", b"128")
    (project / "params.yaml").write_bytes(mine)
    with undo_options_if_refused():
        pass
    assert (project / ".charlm" / ACCEPTED).read_bytes() == mine
    refuse(monkeypatch, project, "model.num_hidden=abc", "+train.nonsense=1")
    assert (project / "params.yaml").read_bytes() == mine


def test_an_edit_by_hand_stays_even_if_it_is_only_a_comment(project, monkeypatch):
    (project / "params.yaml").write_bytes(TEXT.replace(b"or gru", b"my own comment"))
    notes = refuse(monkeypatch, project, "model.num_hidden=abc")
    left = (project / "params.yaml").read_text()
    assert "my own comment" in left
    assert "num_hidden: 384" in left
    assert notes == ["params.yaml: model.num_hidden is as last accepted; your other edits stay"]


def test_params_edited_only_by_hand_are_not_changed(project, monkeypatch):
    monkeypatch.setattr(refused_options, "_command_line", lambda: ["dvc", "exp", "run"])
    (project / "params.yaml").write_bytes(TEXT.replace(b"384", b"abc"))
    with pytest.raises(UserError), undo_options_if_refused():
        raise UserError("refused")
    assert b"abc" in (project / "params.yaml").read_bytes()


@pytest.mark.parametrize("variables", [{"DVC_EXP_NAME": ""}, {"DVC_ROOT": "/elsewhere"}])
def test_a_plain_repro_and_a_temporary_copy_are_not_changed(project, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refuse(monkeypatch, project, "model.num_hidden=abc")
    assert b"abc" in (project / "params.yaml").read_bytes()

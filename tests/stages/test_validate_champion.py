"""The validate stage compares a text with the champion's: it can warn, but never fails."""

import pytest

from pipeline.tracking import stage as tracking
from pipeline.tracking.stage import ChampionArtifact

HEADER = "codepoint,character,train,eval,test\n"


def is_champion(monkeypatch, answer):
    def champion_artifact(artifact):
        assert artifact == "validate/alphabet.csv"
        if isinstance(answer, Exception):
            raise answer
        return ChampionArtifact("3", answer)

    monkeypatch.setattr(tracking, "champion_artifact", champion_artifact)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (f"{HEADER}U+0061,a,90,10,0\n", "warning: the text drifted from champion version 3's: 10 new characters ("),
        (
            f"{HEADER}U+0061,a,many,10,0\n",
            "warning: the champion's alphabet.csv could not be read: not a table of characters",
        ),
        ("", "warning: the champion's alphabet.csv could not be read: not a table of characters"),
        (OSError("the server\nis away"), "warning: validate: not compared with the champion (the server is away)"),
    ],
)
def test_any_champion_gives_at_most_a_warning(make, monkeypatch, capsys, answer, said):
    project = make("stream")
    assert project.failed() == []
    without = project.outputs()
    assert len(without) == 4
    is_champion(monkeypatch, answer)
    assert project.failed() == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert project.outputs() == without


def test_a_champion_of_the_same_text_gives_a_tag_and_no_warning(make, run, monkeypatch, capsys):
    project = make("documents")
    assert project.failed() == []
    assert run.session.tags == {}
    is_champion(monkeypatch, (project.folder / "reports/alphabet.csv").read_text(encoding="utf-8"))
    assert project.failed() == []
    assert run.session.tags == {
        "validate.drift": "Jensen-Shannon divergence 0 bits, from champion version 3's",
    }
    assert capsys.readouterr().err == ""


def test_drift_over_max_drift_gives_a_warning(make, monkeypatch, capsys):
    project = make("stream")
    assert project.failed() == []
    table = (project.folder / "reports/alphabet.csv").read_text(encoding="utf-8").splitlines()
    is_champion(monkeypatch, "\n".join([*table, "U+0416,Ж,9000,0,0"]))
    project.params["validate"]["max_drift"] = 0.5
    assert project.failed() == []
    assert capsys.readouterr().err == ""
    project.params["validate"]["max_drift"] = 0.25
    assert project.failed() == []
    assert "(validate.max_drift 0.25)" in capsys.readouterr().err


def test_a_refused_text_is_not_compared_with_the_champion(make, monkeypatch):
    project = make("stream")
    monkeypatch.setattr(tracking, "champion_artifact", lambda _: pytest.fail("compared"))
    project.shards[1][-1]["text"] += "abc"
    assert project.failed() == ["whole_text_split"]

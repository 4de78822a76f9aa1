from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.sweeping.definition import load_sweep
from pipeline.sweeping.study import Outcome, open_study

TEXT = """
search:
  train.optimizer.lr: {low: 0.001, high: 0.03, log: true}
  model.num_hidden: {low: 8, high: 32, step: 8}
  model.dropout: {low: 0.0, high: 0.5, step: 0.1}
  split.buckets: {choices: [[32], [64]]}
set: {train.epochs: 1}
"""


@pytest.fixture
def definition(folder):
    (folder / "sweep.yaml").write_text(TEXT)
    return load_sweep(folder / "sweep.yaml", [], None)


def opened(definition, **options):
    return open_study(Path("s.db"), definition, **({"label": "s", "jobs": 1} | options))


def done(proposal, perplexity):
    return Outcome(proposal.number, "done", perplexity, 1.0, proposal.values)


def test_values_have_the_types_of_the_space(definition):
    with opened(definition) as study:
        for _ in range(8):
            proposal = study.ask()
            values = proposal.values
            assert all(definition.search[key].holds(value) for key, value in values.items())
            assert isinstance(values["model.num_hidden"], int)
            assert isinstance(values["split.buckets"], list)
            assert f"model.dropout={values['model.dropout']}" in proposal.options
            assert len(str(values["model.dropout"])) == 3
            study.end(done(proposal, 5 + values["train.optimizer.lr"]))


def test_a_resumed_sweep_proposes_the_same_trials_as_an_uninterrupted_one(definition):
    with opened(definition) as study:
        whole = [proposed(study) for _ in range(9)]
    Path("s.db").unlink()
    again = []
    for _ in range(3):
        with opened(definition) as study:
            again += [proposed(study) for _ in range(3)]
    assert again == whole
    assert len({str(values) for values in whole}) == 9


def proposed(study):
    proposal = study.ask()
    study.end(done(proposal, 5 + proposal.values["train.optimizer.lr"]))
    return proposal.values


def test_another_search_is_refused(definition, folder):
    with opened(definition):
        pass
    other = load_sweep(folder / "sweep.yaml", ["train.batch_size=64"], 50)
    with pytest.raises(UserError, match=r"sweep s: train.batch_size: found 64, started with 32; allowed is"):
        opened(other).__enter__()
    (folder / "sweep.yaml").write_text(TEXT.replace("0.03", "0.04"))
    with pytest.raises(UserError, match=r"lr: found {low: 0.001, high: 0.04, log: True}, started with {low"):
        opened(load_sweep(folder / "sweep.yaml", [], None)).__enter__()
    with opened(replace(definition, trials=50)):  # more trials are the same search
        pass
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("temperature: 0.8", "temperature: 0.7"))  # changes no trial
    (folder / "sweep.yaml").write_text(TEXT)
    with opened(load_sweep(folder / "sweep.yaml", [], None)):
        pass


def test_a_file_that_is_not_a_database_is_refused(definition):
    Path("s.db").write_text("no database, but long enough to be taken for one" * 50)
    with pytest.raises(UserError, match=r"s.db: the sweep's database cannot be used: file is not a database"):
        opened(definition).__enter__()


def test_a_lost_trial_is_repeated_once(definition):
    with opened(definition) as study:
        lost, ended = study.ask(), study.ask()
        study.end(done(ended, 5.0))
    for _ in range(2):
        with opened(definition) as study:
            for proposal in study.running():
                assert (proposal.number, proposal.values, proposal.options) == (1, lost.values, lost.options)
                study.lose(proposal.number)
            study.propose_lost_again()
            assert study.counted() == 1
    with opened(definition) as study:
        assert study.ask().values == lost.values
        assert study.ask().values != lost.values
        assert [outcome.number for outcome in study.outcomes()] == [2]


def test_a_trial_is_pruned_if_it_is_worse_than_most_at_the_same_epoch(definition):
    with opened(definition) as study:
        for perplexity in (5, 6, 7, 8):
            good = study.ask()
            for epoch in (0.25, 0.5, 0.75, 1.0):
                assert not study.report(good.number, epoch=epoch, perplexity=perplexity / epoch)
            study.end(done(good, perplexity))
        better, worse, late = study.ask(), study.ask(), study.ask()
        assert not study.report(worse.number, epoch=0.25, perplexity=99)  # too early to judge
        assert study.report(worse.number, epoch=0.502, perplexity=99)
        assert not study.report(better.number, epoch=0.5, perplexity=9)
        assert not study.report(late.number, epoch=1.0, perplexity=99)  # has ended anyway

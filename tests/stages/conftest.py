"""Runs the validate stage in this process."""

from contextlib import contextmanager

import pytest
from support.validated import KINDS, Project

from pipeline.tracking import stage as tracking
from pipeline.tracking.execution import Session
from pipeline.tracking.stage import StageRun
from stages import validate


@pytest.fixture
def run(monkeypatch):
    """Replace the stage's session: errors are raised, nothing goes to MLflow."""
    session = Session(key="test", path=None)
    stage_run = StageRun("validate", session)

    @contextmanager
    def stage(name):
        yield stage_run

    monkeypatch.setattr(validate, "stage", stage)
    monkeypatch.setattr(tracking, "champion_artifact", lambda _: None)
    return stage_run


@pytest.fixture
def make(tmp_path, monkeypatch, run):
    def made(kind):
        monkeypatch.chdir(tmp_path)
        return Project(tmp_path, KINDS[kind])

    return made

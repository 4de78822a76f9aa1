"""Reads that tests of damaged files run in forks: a stage without MLflow, and what `charlm serve` does first."""

import importlib
import json
import sys

from pipeline.core.errors import UserError
from pipeline.params.sampling import Sampling


def stage():
    """Run the stage that is the first argument, without publishing: a refused file would cost seconds."""
    from pipeline.tracking.stage import StageRun

    StageRun._publish = lambda *_, **__: None
    importlib.import_module(f"stages.{sys.argv[1]}").main()


def serve():
    """Load the project's model and its card, and generate a few characters."""
    from pipeline.serving.model_source import load_served

    try:
        served = load_served("models/charlm")
        json.dumps(served.card, allow_nan=False).encode()
        for character in served.writer.stream("abc", Sampling(max_new_chars=3)):
            character.char.encode()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

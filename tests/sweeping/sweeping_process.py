"""A runner to be killed: sweeping_process.py TRIALS JOBS, in a folder with params.yaml and sweep.yaml."""

import signal
import sys
from pathlib import Path

from fakes import FakeTrials

from pipeline.core.errors import UserError
from pipeline.sweeping.definition import load_sweep
from pipeline.sweeping.runner import run_sweep

signal.signal(signal.SIGINT, signal.default_int_handler)
definition = load_sweep(Path("sweep.yaml"), [], int(sys.argv[1]))
try:
    run_sweep(definition, FakeTrials(Path(), Path("results").resolve()), label="s", jobs=int(sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(130)
except UserError as error:
    sys.exit(f"error: {error}")

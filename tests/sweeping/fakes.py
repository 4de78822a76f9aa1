"""Trials that take a second: the command is fakes.py RESULTS NAME OPTIONS; FakeTrials reads its result.

The perplexity grows with the distance of lr from 0.01; a trial with lr over 0.05 diverges, one with the encoding
latin-1 fails. The curve has ten points in FAKE_SECONDS. Before the last, a trial that is worse than half of the results
waits for FAKE_PATIENCE seconds: to be pruned, however slow the machine is.
"""

import json
import math
import os
import statistics
import sys
import time
from pathlib import Path


class FakeTrials:
    def __init__(self, folder, results):
        self.results = results
        self.folder = folder

    def command(self, name, options):
        return [sys.executable, __file__, str(self.results), name, *options]

    def environment(self):
        return {"PYTHONUNBUFFERED": "1"}

    def is_apart(self, log):
        return "set up" in log

    def is_set_up(self, log):
        return "set up" in log

    def is_ending(self, log):
        return "ending" in log

    def result(self, name):
        path = self.results / name
        return float(path.read_text()) if path.exists() else None

    def measurement(self, name):
        return json.loads(os.environ.get("FAKE_MEASUREMENT", '{"window": 100}'))

    def names(self, label):
        return sorted(path.name for path in self.results.glob(f"{label}-*"))

    def clean(self, name):
        pass


def is_hopeless(results, perplexity):
    others = [float(path.read_text()) for path in results.iterdir()]
    return len(others) >= 4 and perplexity > statistics.median(others)


def main():
    results, name, *options = sys.argv[1:]
    params = dict(option.split("=") for option in options)
    with (Path(results).parent / "started.txt").open("a") as file:
        file.write(f"{name} {os.getpid()} {time.time()}\n")
    sys.stdout.write("set up\n")
    lr = float(params["train.optimizer.lr"])
    if params.get("data.encoding") == "latin-1":
        sys.exit("error: text.txt: no such file")
    if lr > 0.05:
        sys.exit("error: train: the loss is 120 per character at update 3")
    perplexity = 4 + 5 * abs(math.log10(lr / 0.01))
    for number in range(1, 11):
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0.3")) / 10)
        point = {"epoch": number / 10, "eval_perplexity": perplexity + 1 - number / 10}
        if number == 10 and is_hopeless(Path(results), perplexity):
            time.sleep(float(os.environ.get("FAKE_PATIENCE", "0")))
        with Path(os.environ["CHARLM_CURVE"]).open("a") as file:
            file.write(json.dumps(point) + "\n")
    sys.stdout.write("ending\n")
    part = Path(results).parent / f"{name}.part"
    part.write_text(str(perplexity))
    part.replace(Path(results) / name)


if __name__ == "__main__":
    main()

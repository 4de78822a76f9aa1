"""How fast the training text is read for the figures of the samples: `python -m benchmarks.samples`.

200 MB of made-up ids (30,000 words, drawn by Zipf's law), as a memory map. MB of ids per second of one core. "edges" is
the walk without a table, over the first 20 MB: what is used where the table would be too large.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.dataset.arrays import chunks_of
from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.evaluation.copies import Copies
from pipeline.evaluation.samples import WordSearch, find, words_of

IDS = 200_000_000
WORDS = 30_000
SAMPLE = 300


def main() -> None:
    """Print the rates for samples of several lengths."""
    dictionary = Dictionary.of("".join(map(chr, range(32, 127))) + "\n", bounded=True)
    random = np.random.default_rng(0)
    words = made_up_words(random)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.npy"
        piece = dictionary.encode(made_up_text(words, 4_000_000, random)).astype(dictionary.dtype)
        np.save(path, np.resize(piece, IDS))
        ids = np.load(path, mmap_mode="r")
        for size in (900, 9_000, 90_000):
            text = made_up_text(words, size, random)[:size]
            texts = [text[at : at + SAMPLE] for at in range(0, size, SAMPLE)]
            copies, search = Copies(texts, dictionary), WordSearch(words_of(texts), dictionary)
            print(f"{size:6,} characters of samples:", end=" ")
            print(f"copies {rate(copies.read, ids):.0f} MB/s, words {rate(search.read, ids):.0f} MB/s", end=", ")
            edges = Copies(texts, dictionary, table_bytes=0)
            print(f"edges {rate(edges.read, ids[: IDS // 10]):.0f} MB/s", end=", ")
            began, cpu = time.perf_counter(), time.process_time()
            find(texts, ids, dictionary)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            print(f"both: {IDS / 1e6 / cpu:.0f} MB/s a core, {IDS / 1e6 / wall:.0f} MB/s on two")


def rate(read: Callable[[Ids], None], ids: Ids) -> float:
    """Return how many MB of `ids` per second of one core `read` takes, once its kernel is compiled."""
    read(ids[:1000])
    began = time.process_time()
    for chunk in chunks_of(ids):
        read(chunk)
    return len(ids) / 1e6 / (time.process_time() - began)


def made_up_words(random: np.random.Generator) -> list[str]:
    """Return the words, some with an apostrophe, some with a capital."""
    letters, often = list("etaoinshrdlcumwfgypbvkjxqz"), 1 / np.arange(2, 28)
    lengths = random.integers(2, 11, size=WORDS)
    words = ["".join(random.choice(letters, size=n, p=often / often.sum())) for n in lengths]
    return [
        (word + "'s" if at % 50 == 0 else word.capitalize() if at % 7 == 0 else word) for at, word in enumerate(words)
    ]


def made_up_text(words: list[str], count: int, random: np.random.Generator) -> str:
    """Return a text of `count` words, the first ones the most frequent."""
    often = 1 / np.arange(1, WORDS + 1)
    picks = random.choice(WORDS, size=count, p=often / often.sum())
    ends = random.choice([" ", " ", " ", " ", " ", " ", ", ", ". ", ".\n"], size=count)
    return "".join(words[at] + end for at, end in zip(picks.tolist(), ends.tolist(), strict=True))


if __name__ == "__main__":
    main()

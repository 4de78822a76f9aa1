"""generate: completes each prompt, greedily and by sampling, and measures the completions."""

from typing import Any

import typer

from pipeline.core.files import DICTIONARY, MODEL, SAMPLES, SPLITS, metrics_of, whole_folder, write_json
from pipeline.core.reproducible import sample_seed
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_ids
from pipeline.evaluation.samples import copied_shares, known_words, longest_repeat, words_in
from pipeline.generation.text import Writer
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import read_group
from pipeline.params.sampling import Sampling
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("generate"):
        params = read_group("generate", GenerateParams)
        writer = Writer.load(MODEL, precision=params.precision)
        dictionary = Dictionary.load(DICTIONARY)
        requests = [(prompt, mode, sampling) for prompt in params.prompts for mode, sampling in _modes(params)]
        completions = writer.generate([prompt for prompt, _, _ in requests], [sampling for _, _, sampling in requests])
        # The training text may be far larger than memory: it is read in chunks, once for each of the two figures.
        train = load_ids(SPLITS / "train", len(dictionary))
        texts = [one.completion for one in completions]
        copied, vocabulary = copied_shares(texts, train, dictionary), words_in(train, dictionary, texts)

        samples: list[dict[str, Any]] = []
        for (prompt, mode, sampling), done, share in zip(requests, completions, copied, strict=True):
            ended = done.finish_reason == "stop"  # there are no stop strings here
            samples.append(
                {
                    "mode": mode,
                    "seed": sampling.seed if mode == "sampled" else None,
                    "temperature": sampling.temperature,
                    "prompt": prompt,
                    "completion": done.completion,
                    **({"finish_reason": done.finish_reason} if writer.dictionary.bounded else {}),
                    "warnings": list(done.warnings),
                    "known_words": known_words(done.completion, vocabulary, ended=ended),
                    "longest_repeat": longest_repeat(done.completion),
                    "copied": share,
                }
            )
        with whole_folder(SAMPLES) as folder:
            write_json(folder / "samples.json", samples)
            (folder / "samples.txt").write_text("\n\n".join(_readable(sample) for sample in samples) + "\n", "utf-8")
        write_json(metrics_of("generate"), _figures(samples))


def _modes(params: GenerateParams) -> list[tuple[str, Sampling]]:
    greedy = Sampling(max_new_chars=params.num_chars, temperature=0)
    sampled = [
        Sampling(**params.sampling() | {"seed": sample_seed(params.seed, number)})
        for number in range(params.num_samples)
    ]
    return [("greedy", greedy), *(("sampled", one) for one in sampled)]


def _readable(sample: dict[str, Any]) -> str:
    how = (
        "greedy"
        if sample["mode"] == "greedy"
        else f"sampled, temperature {sample['temperature']}, seed {sample['seed']}"
    )
    end = ", ended by itself" if sample.get("finish_reason") == "stop" else ""
    return f"--- {how}{end}\n{sample['prompt']}{sample['completion']}"


def _figures(samples: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for mode in ("greedy", "sampled"):
        own = [sample for sample in samples if sample["mode"] == mode]
        if own:
            figures[mode] = {
                "known_words": sum(sample["known_words"] for sample in own) / len(own),
                "longest_repeat": max(sample["longest_repeat"] for sample in own),
            }
            if shares := [sample["copied"] for sample in own if sample["copied"] is not None]:
                figures[mode]["copied"] = sum(shares) / len(shares)
            if "finish_reason" in own[0]:
                figures[mode]["ended"] = sum(sample["finish_reason"] == "stop" for sample in own) / len(own)
    return figures


if __name__ == "__main__":
    typer.run(main)

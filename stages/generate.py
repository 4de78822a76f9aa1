"""generate: what the model writes after each prompt, greedy and sampled."""

from pathlib import Path
from typing import Any

import typer

from pipeline.core.files import whole_folder, write_json
from pipeline.core.seeds import sample_seed
from pipeline.dataset.arrays import load_array
from pipeline.dataset.dictionary import Dictionary
from pipeline.evaluation.samples import find, known_words, longest_repeat
from pipeline.generation.sampling import Sampling
from pipeline.generation.text import Writer
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import read_group
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("generate"):
        params = read_group("generate", GenerateParams)
        writer = Writer.load(Path("models/charlm"), precision=params.precision)
        dictionary = Dictionary.load(Path("data/split/dictionary.json"))
        asked = [(prompt, mode, sampling) for prompt in params.prompts for mode, sampling in _modes(params)]
        texts = writer.generate([prompt for prompt, _, _ in asked], [sampling for _, _, sampling in asked])
        found = find([one.completion for one in texts], load_array(Path("data/split/train/ids.npy")), dictionary)

        samples: list[dict[str, Any]] = []
        for (prompt, mode, sampling), done, copy in zip(asked, texts, found.longest_copies, strict=True):
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
                    "known_words": known_words(done.completion, found.words, ended=ended),
                    "longest_repeat": longest_repeat(done.completion),
                    "longest_copy": copy,
                }
            )
        with whole_folder(Path("samples")) as folder:
            write_json(folder / "samples.json", samples)
            (folder / "samples.txt").write_text("\n\n".join(_readable(sample) for sample in samples) + "\n", "utf-8")
        write_json(Path("metrics/generate.json"), _figures(samples))


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
                "longest_copy": max(sample["longest_copy"] for sample in own),
            }
            if "finish_reason" in own[0]:
                figures[mode]["ended"] = sum(sample["finish_reason"] == "stop" for sample in own) / len(own)
    return figures


if __name__ == "__main__":
    typer.run(main)

"""charlm as a library: load a trained model, generate text with it, and score text. torch is not imported.

For example:

    import charlm

    model = charlm.load("models:/charlm@champion")  # or a folder, like "models/charlm"
    print(model.generate("The United States are", temperature=0.8, seed=7).text)
    for char in model.stream("The United States are"):
        print(char, end="")
    print(model.score("The United States are great.").perplexity)
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Completion, Score
from pipeline.params.sampling import Precision, Sampling
from pipeline.serving.model_source import load_served

__all__ = ["Completion", "Model", "Sampling", "Score", "UserError", "load"]


class Model:
    """A trained model, ready to generate. Made by `load`.

    `card` describes it: name, version, network, parameters, characters, and, where they are known, perplexity, baseline
    and corpus.
    """

    def __init__(self, writer: Writer, card: dict[str, Any]) -> None:
        self.card = card
        self._writer = writer

    @property
    def characters(self) -> str:
        """The characters that the model knows, in the order of their ids. Others are dropped from prompts."""
        return "".join(self._writer.dictionary.characters)

    def generate(self, prompt: str, sampling: Sampling | None = None, **options: Any) -> Completion:
        """Continue `prompt`.

        The options are the fields of `Sampling`, for example temperature=0.8, max_new_chars=300, seed=7. The same
        prompt, options and seed give the same text. Raises UserError, which names the option, if one is out of range.
        """
        return self._writer.complete(prompt, _sampling(sampling, options))

    def generate_batch(
        self, prompts: Sequence[str], sampling: Sampling | Sequence[Sampling] | None = None, **options: Any
    ) -> list[Completion]:
        """Continue many prompts at once, several times as fast as one after the other, with the same texts.

        Pass one sampling for all prompts, or one for each.
        """
        if sampling is None or isinstance(sampling, Sampling):
            return self._writer.generate(prompts, _sampling(sampling, options))
        if options:
            raise UserError(f"{next(iter(options))}: found next to a list of samplings, allowed is one of them")
        if len(sampling) != len(prompts):
            raise UserError(f"sampling: found {len(sampling)} for {len(prompts)} prompts, allowed is one for each")
        return self._writer.generate(prompts, sampling)

    def stream(self, prompt: str, sampling: Sampling | None = None, **options: Any) -> Iterator[str]:
        """Yield the characters that `generate` returns, one by one, as soon as they are known."""
        for character in self._writer.stream(prompt, _sampling(sampling, options)):
            yield character.char

    def score(self, text: str) -> Score:
        """Return how likely each character of `text` is, given those before it.

        The score has `perplexity`, `bits_per_char` and `log_probs`, natural logarithms, float32 [len(score.text)].
        Characters that the model does not know are left out; `score.dropped` counts them.
        """
        return self._writer.score(text)


def load(address: str | Path = "models/charlm", *, precision: Precision = "fp32") -> Model:
    """Return the model at `address`: a folder, "models:/NAME@ALIAS" or "models:/NAME/VERSION".

    A registry address needs MLflow's tracking store: MLFLOW_TRACKING_URI, by default mlflow.db in the current project.
    With `precision="bf16"` the weights are rounded, which makes large networks faster. Raises UserError if there is no
    such model, or if it is damaged.
    """
    served = load_served(str(address), precision=precision)
    return Model(served.writer, served.card)


def _sampling(sampling: Sampling | None, options: dict[str, Any]) -> Sampling:
    if sampling is None:
        unknown = sorted(options.keys() - Sampling.__dataclass_fields__.keys())
        if unknown:
            allowed = ", ".join(Sampling.__dataclass_fields__)
            raise UserError(f"{unknown[0]}: unknown option; allowed are {allowed}")
        return Sampling(**options)
    if options:
        raise UserError(f"{next(iter(options))}: found next to a sampling, allowed is one of them")
    return sampling

"""Reads and validates a sweep: its YAML file, -S options and params.yaml. A search space is Optuna's distributions."""

import itertools
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from pipeline.core.errors import UserError, one_line
from pipeline.params.groups import GROUPS, check_params, suggestion
from pipeline.params.reader import PARAMS_FILE, flatten, parse_value, read_groups, read_yaml

KEYS = ("trials", "sampler", "set", "search")
SAMPLERS, RANGE = ("tpe", "random"), ("low", "high", "log", "step")
# Trials read data that DVC has prepared with params.yaml, and their figures must be comparable: only these may differ.
ALLOWED, PREPARED = ("model", "train"), "train.start_from"
# Params that change at most the last digits of a result, or what dropout draws.
NEUTRAL = ("train.checkpoint_seconds", "train.threads", "train.workers", "train.parts", "train.device")
# Drawn values are rounded to this number of significant digits, so that the printed value is exactly the trained one.
DIGITS, MAX_CORNERS, MAX_TRIALS = 4, 512, 10_000

Dimension = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Definition:
    """A sweep: `fixed` params of all trials and the `search` space, which override `base`, those of params.yaml."""

    name: str
    title: str
    trials: int
    sampler: str
    fixed: dict[str, Any]
    search: dict[str, Dimension]
    base: dict[str, Any]

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all params of the trial with the searched `values`, by dotted key."""
        return self.base | self.fixed | dict(values)

    def values(self, trial: Trial) -> dict[str, Any]:
        """Return the values of the searched params that an Optuna trial has, or else draws."""
        return {key: _suggest(trial, key, dimension) for key, dimension in self.search.items()}

    def start(self) -> FrozenTrial | None:
        """Return the trial with params.yaml's values, with which the search starts; None if the space lacks them."""
        present, values = self.params({}), {}
        for key, dimension in self.search.items():
            values[key] = json.dumps(present[key]) if isinstance(dimension, CategoricalDistribution) else present[key]
        try:
            return create_trial(state=TrialState.WAITING, params=values, distributions=dict(self.search))
        except (ValueError, TypeError):
            return None

    def wanted(self) -> int:
        """Return the number of trials after which the sweep ends: the space may have fewer than it should have."""
        return int(min(self.trials, math.prod(_size(dimension) for dimension in self.search.values())))

    def identity(self, data: Sequence[str]) -> str:
        """Return a hash of all that two trials must share to be comparable; `data` has the hashes of the data."""
        params = {key: value for key, value in self.params({}).items() if key.partition(".")[0] in ALLOWED}
        content = {
            "data": list(data),
            "window": self.base["evaluate.window"],
            "params": {key: value for key, value in params.items() if key not in {*NEUTRAL, *self.search}},
            "search": {key: distribution_to_json(dimension) for key, dimension in self.search.items()},
        }
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def load_sweep(path: Path, options: Sequence[str], trials: int | None) -> Definition:
    """Return the sweep in a file, with -S `options` and a number of `trials`; UserError if any value is invalid."""
    read_groups(GROUPS)
    base = flatten(read_yaml(PARAMS_FILE))
    found = read_sweep(path, base)
    given: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise UserError(f"-S: found {option!r}, allowed is key=value")
        _check_key(key, base, f"-S {key}")
        if key in found.search:
            raise UserError(f"-S {key}: found a param that {path.name} searches, allowed are others")
        given[key] = parse_value(text)
    check_params(base | given, "-S")
    sweep = replace(found, fixed=found.fixed | given, trials=trials or found.trials)
    # If the extreme values are valid params, all values between them are.
    ends = [_ends(dimension) for dimension in sweep.search.values()]
    for corner in itertools.islice(itertools.product(*ends), MAX_CORNERS):
        check_params(sweep.params(dict(zip(sweep.search, corner, strict=True))), path.name)
    return sweep


def read_sweep(path: Path, base: Mapping[str, Any]) -> Definition:
    """Return the sweep in a file; if `base` (params.yaml) is not empty, the file's keys must be in it."""
    content = read_yaml(path)
    for key in content:
        if key not in KEYS:
            raise UserError(f"{path.name}: {key}: unknown key; allowed are {', '.join(KEYS)}")
    for key in ("set", "search"):
        if not isinstance(content.setdefault(key, {}), dict):
            raise UserError(f"{path.name}: {key}: found {content[key]!r}, allowed is a mapping of params")
    trials, sampler = content.get("trials", 20), content.get("sampler", SAMPLERS[0])
    if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= MAX_TRIALS:
        raise UserError(f"{path.name}: trials: found {trials!r}, allowed is a whole number from 1 to {MAX_TRIALS}")
    if sampler not in SAMPLERS:
        raise UserError(f"{path.name}: sampler: found {sampler!r}, allowed are {', '.join(SAMPLERS)}")
    fixed = flatten(content["set"])
    for key in fixed:
        _check_key(key, base, f"{path.name}: set.{key}")
    search = {}
    for key, value in _dimensions(content["search"]):
        _check_key(key, base, f"{path.name}: search.{key}")
        if key in fixed:
            raise UserError(f"{path.name}: {key}: found under set and under search, allowed is one of them")
        search[key] = _dimension(f"{path.name}: search.{key}", value)
    if not search:
        raise UserError(f"{path.name}: search: missing; allowed is a mapping of params to {{low, high}} or {{choices}}")
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    title = first[1:].strip() if first.startswith("#") else ""
    return Definition(path.stem, title, trials, sampler, fixed, search, dict(base))


def _check_key(key: str, base: Mapping[str, Any], place: str) -> None:
    if base and key not in base:
        raise UserError(f"{place}: no such param{suggestion(key, list(base), ALLOWED)}")
    if key.partition(".")[0] not in ALLOWED or key == PREPARED:
        raise UserError(
            f"{place}: the data and the measurement are those of params.yaml for all trials; "
            f"allowed are model.* and train.* (without {PREPARED})"
        )


def _dimensions(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield dotted keys and their values: nested mappings are groups until one has a dimension's keys."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, dict) and inner and all(isinstance(one, dict) for one in inner.values()):
            yield from _dimensions(inner, f"{name}.")
        else:
            yield name, inner


def _dimension(place: str, value: Any) -> Dimension:
    """Return the values that a param may have; numbers are whole if both ends are. Choices are stored as JSON."""
    match value:
        case {"choices": [_, _, *_] as choices} if len(value) == 1:
            texts = [json.dumps(choice) for choice in choices]
            if len(set(texts)) < len(texts):
                raise UserError(f"{place}: found {json.dumps(choices)}, allowed are distinct values")
            return CategoricalDistribution(texts)
        case {"low": int() | float() as low, "high": int() | float() as high} if value.keys() <= {*RANGE}:
            log, step = value.get("log", False), value.get("step")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a high that is not low plus steps is lowered
                    if isinstance(low, int) and isinstance(high, int):
                        return IntDistribution(low, high, log, 1 if step is None else step)
                    return FloatDistribution(low, high, log, step)
            except (ValueError, TypeError) as error:
                raise UserError(f"{place}: {one_line(error)}") from None
    raise UserError(f"{place}: found {value!r}, allowed is {{low, high}}, with log or step, or {{choices}}, at least 2")


def _suggest(trial: Trial, key: str, dimension: Dimension) -> Any:
    if isinstance(dimension, CategoricalDistribution):
        return json.loads(str(trial.suggest_categorical(key, dimension.choices)))
    if isinstance(dimension, IntDistribution):
        return trial.suggest_int(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    value = trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)


def _ends(dimension: Dimension) -> list[Any]:
    if isinstance(dimension, CategoricalDistribution):
        return [json.loads(str(text)) for text in dimension.choices]
    return [dimension.low, dimension.high]


def _size(dimension: Dimension) -> float:
    if isinstance(dimension, CategoricalDistribution):
        return len(dimension.choices)
    return math.inf if dimension.step is None else round((dimension.high - dimension.low) / dimension.step) + 1

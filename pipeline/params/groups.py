"""All groups of params.yaml, by name."""

from pipeline.params.base import Group
from pipeline.params.generation import GenerateParams, RegisterParams
from pipeline.params.text import CleanParams, DataParams, SplitParams, ValidateParams
from pipeline.params.training import EvaluateParams, ModelParams, TrainParams

GROUPS: dict[str, type[Group]] = {
    "data": DataParams,
    "clean": CleanParams,
    "split": SplitParams,
    "validate": ValidateParams,
    "model": ModelParams,
    "train": TrainParams,
    "evaluate": EvaluateParams,
    "generate": GenerateParams,
    "register": RegisterParams,
}

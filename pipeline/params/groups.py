"""All groups by name: what a whole params.yaml must hold."""

from pipeline.params.base import Group
from pipeline.params.clean import CleanParams
from pipeline.params.data import DataParams
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.generate import GenerateParams
from pipeline.params.model import ModelParams
from pipeline.params.register import RegisterParams
from pipeline.params.split import SplitParams
from pipeline.params.train import TrainParams
from pipeline.params.validate import ValidateParams

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

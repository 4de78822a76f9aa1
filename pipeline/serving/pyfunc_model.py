"""The model as MLflow serves it: logged as this file, not as a pickle."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.serving.answers import answer, stream_answer


class Predicting:
    """`predict`, apart from CharModel: MLflow asks a model's own `predict` for type hints and takes them for a schema.

    The schema is the logged signature.
    """

    writer: Writer

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return one object per prompt; MLflow's server answers 400 with the message if the input is wrong."""
        del context
        try:
            return answer(self.writer, model_input, params)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def predict_stream(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Yield the characters that follow one prompt, as they come."""
        del context
        try:
            yield from stream_answer(self.writer, model_input, params)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


class CharModel(Predicting, PythonModel):  # type: ignore[misc]
    """Continues prompts; see `pipeline.serving.answers` for what goes in and out."""

    def load_context(self, context: Any) -> None:
        """Read the model's folder from the artifacts, and compile or find the kernels: no request waits for that."""
        self.writer = Writer.load(Path(context.artifacts["model"]))
        self.writer.warm_up()


mlflow.models.set_model(CharModel())

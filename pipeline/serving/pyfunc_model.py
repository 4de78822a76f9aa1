"""The MLflow pyfunc model. MLflow logs this file as code, so no pickle is needed."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.serving.answers import answer, stream_answer


class Predicting:
    """`predict` is in this class because MLflow would take type hints of CharModel's own `predict` for a schema.

    The schema is the logged signature instead.
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
        """Yield the characters that follow one prompt, as they are generated."""
        del context
        try:
            yield from stream_answer(self.writer, model_input, params)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


class CharModel(Predicting, PythonModel):  # type: ignore[misc]
    """Continues prompts; `pipeline.serving.answers` describes input and output."""

    def load_context(self, context: Any) -> None:
        """Load the model from the artifacts, and its kernels, compiled or from the cache, before any request."""
        self.writer = Writer.load(Path(context.artifacts["model"]))
        self.writer.warm_up()


mlflow.models.set_model(CharModel())

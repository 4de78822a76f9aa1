"""register: logs the model to MLflow as a new version of the registered model, with an alias if it passes the gate."""

import typer

from pipeline.core.files import MODEL, REGISTRATION, metrics_of, read_checked, sha256_of, write_json
from pipeline.evaluation.measurement import MEASUREMENT, MEASUREMENT_ID, measurement_id, record_in
from pipeline.model.saved import SavedModel
from pipeline.params.generation import GenerateParams, RegisterParams
from pipeline.params.reader import read_group
from pipeline.params.text import DataParams
from pipeline.serving.registration import RegisteredFigures, register_model, requirements
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("register") as run:
        params = read_group("register", RegisterParams)
        name = params.name_for(read_group("data", DataParams).source)
        read_group("generate", GenerateParams)  # validates it: the first prompt is the model's input example
        SavedModel.load(MODEL)  # refuses a damaged model before it is logged
        figures = read_checked(metrics_of("evaluate"), RegisteredFigures)
        if message := run.register(lambda execution, run_id: register_model(execution, run_id=run_id)):
            print(message)
        write_json(
            REGISTRATION,
            {
                "model_name": name if params.enabled else None,
                "perplexity": figures["perplexity"],
                "eval_sha256": figures["eval_sha256"],
                MEASUREMENT: record_in(figures),
                MEASUREMENT_ID: measurement_id(record_in(figures)),
                "passes_max_perplexity": figures["perplexity"] <= params.max_perplexity,
                "weights_sha256": sha256_of(MODEL / "weights.safetensors"),
                "requirements": requirements(),
            },
        )


if __name__ == "__main__":
    typer.run(main)

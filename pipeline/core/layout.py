"""The paths of the files that stages pass to each other, relative to the project's root. dvc.yaml declares the same."""

from pathlib import Path

# source, ingest, clean
SOURCE = Path("data/source.json")
# the model to start from: its files, none if train.start_from is null
START = Path("data/start")
DOCUMENTS = Path("data/documents")
CLEAN = Path("data/clean")
CLEAN_CHANGES = Path("reports/clean.csv")

# split: a folder for each of train, eval and test, and the dictionary
SPLITS = Path("data/split")
DICTIONARY = SPLITS / "dictionary.json"

# validate
VALIDATED = Path("data/validated.json")
VALIDATION = Path("reports/validation.json")
ALPHABET = Path("reports/alphabet.csv")
DATA_DOCS = Path("reports/data_docs")
# a sample of the training text's substrings, which train puts next to the weights
SUBSTRINGS = Path("data/substrings.npy")

# train
MODEL = Path("models/charlm")
CURVE = Path("plots/train.csv")
TUTORIAL_CURVE = Path("plots/tutorial.csv")

# evaluate, generate, register
SUMMARY = Path("metrics/summary.json")
PLOTS = Path("plots")
SAMPLES = Path("samples")
REGISTRATION = Path("models/registration.json")


def metrics_of(stage: str) -> Path:
    """Return the file with the figures of a stage: of each but source, register and summary."""
    return Path(f"metrics/{stage}.json")

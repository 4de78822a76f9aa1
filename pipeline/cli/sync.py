"""`charlm sync`: the runs that MLflow lacks."""

from pipeline.params.reader import PARAMS_FILE, read_yaml


def sync() -> None:
    """Send MLflow what it lacks: records kept while it was away, and experiments that DVC restored from its cache."""
    from pipeline.lineage.sync import sync as send_missing  # loads MLflow and DVC

    read_yaml(PARAMS_FILE)  # says so if this is no project
    count = 0
    for line in send_missing():
        count += 1
        print(line, flush=True)
    if not count:
        print("nothing is missing: MLflow has a run of each experiment")

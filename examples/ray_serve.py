"""Several `charlm serve` on a Ray cluster, behind one address.

    pip install 'charlm[serve]' 'ray[serve]==2.60.0'
    CHARLM_MODEL=/shared/model serve run examples.ray_serve:app      # in the project's folder

All machines need charlm and the model's folder (a copy of models/charlm) under the same path. CHARLM_API_KEY is the
key, if there is one. Ray listens at 127.0.0.1:8000, and every client of docs/serving.md works as with one server,
streams included. A replica that dies is replaced. Each has metrics of its own, and `/metrics` shows those of one.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from ray import serve

from pipeline.serving.application import make_application
from pipeline.serving.model_source import load_served

REPLICAS = 2


def make_app() -> FastAPI:
    """Return the application of a replica; it loads the model."""
    address = os.environ.get("CHARLM_MODEL", str(Path("models/charlm").resolve()))
    key = os.environ.get("CHARLM_API_KEY") or None
    return make_application(lambda: load_served(address, precision="fp32"), key=key, workers=REPLICAS)


@serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=256)
@serve.ingress(make_app)
class Charlm:
    """One replica."""


app = Charlm.bind()

"""`charlm serve`: runs the HTTP server, on loopback unless there is a key."""

import ipaddress
import os
import sys
from typing import Annotated

import typer

from pipeline.cli.inputs import DEFAULT_MODEL, ModelAddress, print_model
from pipeline.core.errors import UserError
from pipeline.params.sampling import Precision

KEY_VARIABLE = "CHARLM_API_KEY"
SWITCH_SECONDS = 0.0005


def serve(
    model: ModelAddress = DEFAULT_MODEL,
    host: Annotated[str, typer.Option(help="Other than loopback only with a key in CHARLM_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    precision: Annotated[Precision, typer.Option(help="bf16: faster for large networks.")] = "fp32",
    in_flight: Annotated[int, typer.Option(min=1, max=4096, help="Texts generated at once.")] = 64,
    queue: Annotated[int, typer.Option(min=0, max=100_000, help="Texts that may wait; more are answered 429.")] = 256,
    max_tokens: Annotated[int, typer.Option(min=1, max=100_000, help="Most characters of a completion.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Longest time of a request.")] = 120.0,
    cors: Annotated[list[str] | None, typer.Option(help="An origin whose pages may call the server.")] = None,
    *,
    access_log: Annotated[
        bool, typer.Option(help="Log each request: time, path, status, latency; never a prompt.")
    ] = False,
) -> None:
    """Serve a model: OpenAI's /v1/completions (streaming too), a page to play with, /docs, /metrics."""
    key = os.environ.get(KEY_VARIABLE) or None
    if key is None and not is_loopback(host):
        raise UserError(f"--host: found {host} without a key, allowed is loopback; set {KEY_VARIABLE} to open it")
    # Imported here because --help and the check of the port do not need them.
    from pipeline.serving.listening import listen, run

    listening = listen(host, port)
    from pipeline.serving.application import make_application
    from pipeline.serving.completions import Limits
    from pipeline.serving.middleware import LOOPBACK
    from pipeline.serving.model_source import Served, load_served

    def load() -> Served:
        served = load_served(model, precision=precision)
        print_model(model, version=served.card["version"], perplexity=served.card["perplexity"])
        return served

    limits = Limits(max_tokens=max_tokens, seconds=seconds, in_flight=in_flight, queue=queue)
    app = make_application(
        load,
        limits=limits,
        key=key,
        hosts=(*LOOPBACK, host),
        cors=tuple(cors or ()),
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"charlm: {model} at http://{shown}:{listening.getsockname()[1]}/  (API: /docs, Ctrl-C ends)", flush=True)
    # The event loop and the batcher's thread alternate many times a second: Python's default of 5 ms is too long.
    sys.setswitchinterval(SWITCH_SECONDS)
    run(app, listening, access_log=access_log)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

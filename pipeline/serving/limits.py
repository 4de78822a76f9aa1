"""What the server takes on: every input has a bound."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a request and of all at once; `charlm serve` has an option for the last four.

    `texts` counts prompts times n; `seconds` is how long a request may take; `in_flight` texts are written side by
    side, `queue` more wait.
    """

    body_bytes: int = 2_000_000
    prompt_chars: int = 100_000
    max_tokens: int = 20_000
    texts: int = 64
    seconds: float = 120.0
    in_flight: int = 64
    queue: int = 256

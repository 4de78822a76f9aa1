"""Any text as params.yaml gives valid params or one line: never a traceback, never a hang.

CHARLM_FAULT_SEED sets the seed of the long test, CHARLM_FAULT_CASES the number of texts that it tries.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as starting_at
from support.odd_yaml import ALIASES, ODD, TEXTS
from support.odd_yaml import GROUPS as NAMES

from pipeline.core.errors import UserError, one_line
from pipeline.params import Group
from pipeline.params.groups import GROUPS
from pipeline.params.reader import parse_value, read_groups
from pipeline.tracking.differences import params_of

# hypothesis tells a text that takes longer as a failure. Large, since the cores are shared.
SLOWEST_MS = 20_000
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def read(folder, text):
    """Read `text` as params.yaml, and as other YAML; return the error's line, None if it is valid."""
    path = folder / "params.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    params_of(text)
    parse_value(text)
    try:
        groups = read_groups(GROUPS, path)
    except UserError as error:
        line = one_line(error)
        assert line.startswith("params.yaml: ")
        assert len(line) < 2000
        return line
    assert groups.keys() == GROUPS.keys()
    assert all(isinstance(group, Group) for group in groups.values())
    return None


@pytest.mark.parametrize("odd", [*ODD, ALIASES], ids=lambda text: repr(text[:20]))
def test_odd_yaml_is_refused_with_one_line(tmp_path, odd):
    assert read(tmp_path, odd)
    assert read(tmp_path, f"{NAMES[0]}: {odd}\n")
    assert read(tmp_path, f"{NAMES[0]}:\n  source: {odd}\n")


@given(text=TEXTS)
@settings(max_examples=30, derandomize=True, deadline=SLOWEST_MS, suppress_health_check=QUIET, database=None)
def test_any_text_is_read_or_refused(tmp_path, text):
    read(tmp_path, text)


@pytest.mark.slow
def test_many_texts_are_read_or_refused(tmp_path, seed):
    cases = os.environ.get("CHARLM_FAULT_CASES") or "400"
    valid = 0

    @starting_at(seed)
    @given(text=TEXTS)
    @settings(
        max_examples=20_000 if cases == "all" else int(cases),
        deadline=SLOWEST_MS,
        suppress_health_check=QUIET,
        database=None,
    )
    def check(text):
        nonlocal valid
        valid += read(tmp_path, text) is None

    check()
    assert valid

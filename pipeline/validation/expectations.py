"""Checks the contracts with Great Expectations, and writes its Data Docs."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx  # reads the variable above
import pandas as pd
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from pipeline.validation.contracts import KEYS, MILDER, TABLES, Contract
from pipeline.validation.data_docs import SITE, Line, make_readable, site

FailOn = Collection[str] | Literal["all"]

# The maximal number of rows that a message names.
NAMED = 3


@dataclass(frozen=True)
class Outcome:
    """The result of one contract. `stops`: a failure ends the pipeline. `found`, `allowed`, `why` are for messages."""

    name: str
    table: str
    passed: bool
    stops: bool
    found: str
    allowed: str
    why: str


def check(
    tables: dict[str, pd.DataFrame],
    contracts: list[Contract],
    *,
    fail_on: FailOn = "all",
    data_docs: Path | None = None,
) -> list[Outcome]:
    """Return the outcome of every contract, in order. Writes Data Docs into the folder `data_docs` if it is given.

    Contracts named in `fail_on` stop the pipeline if they fail; `all` means every one that is not in MILDER.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    if data_docs is not None:
        context.add_data_docs_site(SITE, site(data_docs))
    source = context.data_sources.add_pandas("facts")
    results: dict[str, ExpectationValidationResult] = {}
    for name, table in tables.items():
        suite = gx.ExpectationSuite(name=name, notes=TABLES[name])
        for contract in contracts:
            if contract.table == name:
                suite.add_expectation(_described(contract, stops=_stops(contract, fail_on)))
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(definition)],
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": KEYS[name],
                "return_unexpected_index_query": False,
            },
        )
        run_id = RunIdentifier(run_name="validate")
        ran = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table}, run_id=run_id)
        for run_result in ran.run_results.values():
            for result in run_result.results:
                results[result.expectation_config.meta["name"]] = result
    outcomes = [_outcome(contract, results[contract.name], stops=_stops(contract, fail_on)) for contract in contracts]
    if data_docs is not None:
        # An action of each checkpoint would build the index, and look at all pages, once for each table.
        context.build_data_docs(site_names=[SITE], build_index=False)
        make_readable(
            data_docs, list(map(_line_of_index, contracts, outcomes)), {name: TABLES[name] for name in tables}
        )
    return outcomes


def format_failures(outcomes: list[Outcome]) -> str | None:
    """Return one line about the failed contracts that stop the pipeline, None if there are none."""
    failed = [outcome for outcome in outcomes if outcome.stops and not outcome.passed]
    if not failed:
        return None
    more = f" (failed too: {', '.join(outcome.name for outcome in failed[1:])})" if len(failed) > 1 else ""
    return f"{_line(failed[0])}{more}"


def format_warnings(outcomes: list[Outcome]) -> list[str]:
    """Return a line for each failed contract that only warns, unless the stricter one of MILDER stops the pipeline."""
    stopped = {outcome.name for outcome in outcomes if outcome.stops and not outcome.passed}
    failed = [outcome for outcome in outcomes if not (outcome.stops or outcome.passed)]
    return [f"warning: {_line(one)}" for one in failed if MILDER.get(one.name) not in stopped]


def _line_of_index(contract: Contract, outcome: Outcome) -> Line:
    return Line(
        name=outcome.name.replace("_", " "),
        table=outcome.table,
        column=getattr(contract.expectation, "column", ""),
        mark="passed" if outcome.passed else "failed" if outcome.stops else "warned",
        found=outcome.found,
        expected=outcome.allowed,
        why=outcome.why,
    )


def _stops(contract: Contract, fail_on: FailOn) -> bool:
    return contract.name not in MILDER if fail_on == "all" else contract.name in fail_on


def _described(contract: Contract, *, stops: bool) -> Expectation:
    """Return the contract's expectation with the description that Data Docs show."""
    expectation = contract.expectation.copy()  # a suite keeps a reference to the object that it is given
    condition = getattr(expectation, "row_condition", None)
    where = f" where {condition.pass_through_filter}" if condition else ""
    expected = f"{expectation.column}{where} is {_allowed(expectation)}"
    expectation.meta = {"name": contract.name}
    expectation.description = f"{contract.name.replace('_', ' ')}: {expected}. Otherwise {contract.why}."
    expectation.notes = None if stops else "Only warns: a failure does not stop the pipeline."
    expectation.severity = FailureSeverity.CRITICAL if stops else FailureSeverity.WARNING
    return expectation


def _line(outcome: Outcome) -> str:
    expected = f"allowed is {outcome.allowed}" if outcome.stops else f"expected {outcome.allowed}"
    return f"validate: {outcome.name}: {outcome.why}; found {outcome.found}, {expected}"


def _outcome(contract: Contract, result: ExpectationValidationResult, *, stops: bool) -> Outcome:
    return Outcome(
        name=contract.name,
        table=contract.table,
        passed=bool(result.success),
        stops=stops,
        found=_found(result, KEYS[contract.table]),
        allowed=_allowed(contract.expectation),
        why=contract.why,
    )


def _found(result: ExpectationValidationResult, keys: list[str]) -> str:
    if result.exception_info and "exception_message" in str(result.exception_info) and not result.result:
        return "a table that could not be checked"
    content: dict[str, Any] = result.result
    if "observed_value" in content:
        return str(content["observed_value"])
    wrong = content.get("partial_unexpected_list") or []
    count = content.get("unexpected_count") or 0
    column = result.expectation_config.kwargs.get("column")
    if not count:
        return f"{column} as allowed"
    rows = content.get("partial_unexpected_index_list") or [{}] * len(wrong)
    shown = [f"{_show(value)}{_row(row, keys)}" for value, row in zip(wrong, rows, strict=False) if value is not None]
    return f"{column} {', '.join(shown[:NAMED])}" if shown else f"{count} rows without {column}"


def _row(row: dict[str, Any], keys: list[str]) -> str:
    """Return the columns that identify a row, as in " (split eval)"."""
    named = " ".join(f"{key} {row[key]}" for key in keys if key in row)
    return f" ({named})" if named else ""


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _allowed(expectation: Any) -> str:
    low, high = getattr(expectation, "min_value", None), getattr(expectation, "max_value", None)
    if low is not None:
        return f"at least {low:g}"
    if high is not None:
        return f"at most {high:g}"
    if (allowed := getattr(expectation, "value_set", None)) is not None:
        return ", ".join(str(value) for value in allowed)
    return "distinct values" if "Unique" in type(expectation).__name__ else "no nulls"

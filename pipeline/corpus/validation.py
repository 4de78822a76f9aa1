"""Checking contracts with Great Expectations: an ephemeral context, no analytics, plain results, Data Docs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx  # reads the variable above
import pandas as pd
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig

from pipeline.corpus.contracts import Contract

DOCS_SITE = "facts"


@dataclass(frozen=True)
class Outcome:
    """How one contract came out; `found` and `allowed` are for people."""

    name: str
    table: str
    passed: bool
    found: str
    allowed: str
    why: str


def check(
    tables: dict[str, pd.DataFrame], contracts: list[Contract], *, data_docs: Path | None = None
) -> list[Outcome]:
    """Return the outcome of every contract, in order; writes Data Docs into the folder `data_docs` if one is given."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    actions = []
    if data_docs is not None:
        context.add_data_docs_site(DOCS_SITE, _site(data_docs))
        actions.append(UpdateDataDocsAction(name="docs", site_names=[DOCS_SITE]))
    source = context.data_sources.add_pandas("facts")
    results: dict[str, ExpectationValidationResult] = {}
    for name, table in tables.items():
        own = [contract for contract in contracts if contract.table == name]
        suite = gx.ExpectationSuite(name=name)
        for contract in own:
            contract.expectation.meta = {"name": contract.name}
            contract.expectation.notes = f"**{contract.name}**: otherwise {contract.why}"
            suite.add_expectation(contract.expectation)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(definition)],
            actions=actions,
            result_format={"result_format": "COMPLETE"},
        )
        ran = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table})
        for run_result in ran.run_results.values():
            for result in run_result.results:
                results[result.expectation_config.meta["name"]] = result
    return [_outcome(contract, results[contract.name]) for contract in contracts]


def told(outcomes: list[Outcome]) -> str | None:
    """Return the failed contracts as one line, None if all passed."""
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if not failed:
        return None
    first = failed[0]
    more = f" (failed too: {', '.join(outcome.name for outcome in failed[1:])})" if len(failed) > 1 else ""
    return f"validate: {first.name}: {first.why}; found {first.found}, allowed is {first.allowed}{more}"


def _outcome(contract: Contract, result: ExpectationValidationResult) -> Outcome:
    return Outcome(
        name=contract.name,
        table=contract.table,
        passed=bool(result.success),
        found=_found(result),
        allowed=_allowed(contract.expectation),
        why=contract.why,
    )


def _found(result: ExpectationValidationResult) -> str:
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
    shown = ", ".join(_show(value) for value in wrong[:3] if value is not None)
    return f"{column} {shown}" if shown else f"{count} rows without {column}"


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(expectation: Any) -> str:
    low, high = getattr(expectation, "min_value", None), getattr(expectation, "max_value", None)
    if low is not None:
        return f"at least {low:g}"
    if high is not None:
        return f"at most {high:g}"
    if (allowed := getattr(expectation, "value_set", None)) is not None:
        return ", ".join(str(value) for value in allowed)
    return "distinct values" if "Unique" in type(expectation).__name__ else "no nulls"


def _site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder.resolve()),
        },
    }

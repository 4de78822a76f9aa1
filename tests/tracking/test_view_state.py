import json

from pipeline.tracking.view import MAX_PARAMS, view_state

METRICS = {"evaluate/perplexity", "evaluate/bits_per_char", "train/eval_perplexity", "train/seconds", "system/x"}


def test_the_best_run_is_first_and_params_follow_perplexity():
    state = json.loads(view_state(["model.num_hidden"], METRICS))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`evaluate/perplexity`", True)
    assert state["selectedColumns"] == [
        "metrics.`evaluate/perplexity`",
        "params.`model.num_hidden`",
        "metrics.`evaluate/bits_per_char`",
        "metrics.`train/seconds`",
    ]
    assert state["columnOrder"][-4:] == state["selectedColumns"]
    with_baseline = json.loads(view_state([], METRICS | {"evaluate/baseline_perplexity"}))
    assert with_baseline["selectedColumns"][1] == "metrics.`evaluate/baseline_perplexity`"


def test_the_number_of_param_columns_is_limited():
    state = json.loads(view_state([f"train.x{number}" for number in range(20)], METRICS))
    assert sum(column.startswith("params") for column in state["selectedColumns"]) == MAX_PARAMS


def test_learning_curves_and_perplexity_are_the_first_charts_and_other_groups_are_closed():
    state = json.loads(view_state([], METRICS))
    charts = [(chart["type"], chart["metricKey"]) for chart in state["compareRunCharts"]]
    assert charts == [("LINE", "train/eval_perplexity"), ("BAR", "evaluate/perplexity"), ("BAR", "train/seconds")]
    first, *others = state["compareRunSections"]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {first["uuid"]}
    assert first["display"]
    assert not any(section["display"] for section in others)


def test_runs_that_were_not_measured_alike_have_a_column_that_says_so():
    column = "tags.`evaluate.measurement_id`"
    assert column not in json.loads(view_state([], METRICS))["selectedColumns"]
    columns = json.loads(view_state(["model.num_hidden"], METRICS, measured_alike=False))["selectedColumns"]
    assert (
        columns.index("metrics.`evaluate/perplexity`")
        < columns.index(column)
        < columns.index("params.`model.num_hidden`")
    )

import json

import pytest

from pipeline.params.reader import parse_value
from pipeline.survey.plan import as_value, find_text_column, suggest_source


def said(source, root):
    return {one.key: one.value for one in suggest_source(source, root)}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_text_column_of_a_csv_is_the_one_with_the_most_text(tmp_path, separator):
    rows = [["id", "title", "body"], ["1", "one", "a long text, of some words"], ["2", "two", "another long text"]]
    cell = '"{}"'.format
    (tmp_path / "a.csv").write_text("\n".join(separator.join(map(cell, row)) for row in rows))
    assert said("a.csv", tmp_path) == {"data.source": "a.csv", "data.text_column": "body"}


def test_the_text_column_of_json_lines_and_the_name_text(tmp_path):
    rows = [{"text": "short", "note": "much longer than the other"}] * 3
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert find_text_column(tmp_path / "a.jsonl") == "text"
    (tmp_path / "b.jsonl").write_text("no json")
    assert find_text_column(tmp_path / "b.jsonl") is None


def test_a_folder_of_markdown_becomes_a_glob(tmp_path):
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/deep/a.md").write_text("x")
    assert said("docs/", tmp_path) == {"data.source": "docs/**/*.md"}
    (tmp_path / "docs/b.txt").write_text("x")
    assert said("docs", tmp_path) == {"data.source": "docs"}


@pytest.mark.parametrize("text", ["docs/**/*.md", "*.txt", "2020", "null", "a: b", "my file.txt"])
def test_a_name_survives_as_a_value(text):
    assert parse_value(as_value(text)) == text

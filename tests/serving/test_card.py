from conftest import random_model

from pipeline.files import write_json
from pipeline.serving.card import project_card


def test_the_curve_has_every_point_and_no_eval_where_it_was_not_measured(tmp_path):
    write_json(tmp_path / "metrics/evaluate.json", {"perplexity": 3.5, "bits_per_char": 1.8})
    write_json(tmp_path / "metrics/split.json", {"train_chars": 9, "eval_chars": 1})
    (tmp_path / "params.yaml").write_text("data: {source: a/book.txt}\n")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/train.csv").write_text(
        "step,seconds,train_perplexity,eval_perplexity\n1,0.5,9.5,\n2,1.0,8.5,8.1\n"
    )
    curve = project_card(random_model(), tmp_path)["curve"]
    assert [point["train_perplexity"] for point in curve] == [9.5, 8.5]
    assert [point["eval_perplexity"] for point in curve] == [None, 8.1]

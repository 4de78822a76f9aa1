import pytest

from pipeline.survey.prompts import find_prompts


def every(_):
    return True


def test_prompts_are_frequent_beginnings_of_sentences():
    text = "La guerre est finie depuis hier. Il pleut. " * 3 + "Nous sommes tous là. " * 5
    assert find_prompts(text, is_usable=every) == ["La guerre est finie", "Nous sommes tous"]


def test_a_prompt_that_the_model_would_not_know_is_left_out():
    text = "Été comme hiver il pleut. " * 5 + "Nous sommes ici pour toujours. " * 4
    assert find_prompts(text, is_usable=str.isascii)[0].startswith("Nous")
    assert find_prompts(text, is_usable=lambda _: False) == []


def test_a_text_without_frequent_beginnings_gives_its_own_first_words():
    assert find_prompts("Zwei Hunde laufen schnell davon.", is_usable=every) == ["Zwei Hunde laufen schnell"]


@pytest.mark.parametrize("heading", ["# Usage", "12 - 3 = 9", "| a | b | c | d | e |"])
def test_headings_and_tables_are_no_prompts(heading):
    text = f"{heading}\n" * 9 + "We are glad to see you.\n" * 3
    assert find_prompts(text, is_usable=every) == ["We are glad to"]


def test_a_script_without_spaces():
    assert find_prompts("私たちは今日も元気です。" * 4, is_usable=every) == ["私たちは今日"]

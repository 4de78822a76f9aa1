"""Addresses with credentials are refused: params.yaml is stored in Git, DVC and MLflow."""

import pytest

from pipeline.core.errors import UserError, one_line
from pipeline.params.reader import parse_group
from pipeline.params.text import DataParams, source_name

UUID = "0b1c2d3e-1111-2222-3333-444455556666"


def read(source):
    return parse_group("data", {"source": source}, DataParams).source


@pytest.mark.parametrize(
    "source",
    [
        "https://user:hushhush@host/book.txt",
        "https://hushhush@host/book.txt",
        "https://user:p/hushhush@host/book.txt",
        "HTTPS://user:hushhush@host:8443/book.txt",
        "https://host/book.txt?sig=hushhush",
        "https://host/book.txt?sv=1&SIG=hushhush",
        "https://host/book.txt?X-Amz-Expires=60&X-Amz-Signature=hushhush",
        "https://host/book.txt?access_token=hushhush",
        "https://host/book.txt?apikey=hushhush",
        "https://host/book.txt?a=1;password=hushhush",
        "https://host/book.txt?%73ig=hushhush",
        "https://host/book.txt?id=hushhush4hushhush4hushhush",
        "https://host/book.txt?hushhush4hushhush4hushhush",
        f"https://host/book.txt?share={UUID}&hushhush",
        "https://host/book.txt#access_token=hushhush",
        "s3://key:hushhush@bucket/book.txt",
        "ftp://user:hushhush@host/book.txt",
    ],
)
def test_an_address_with_credentials_is_refused_without_repeating_them(source):
    with pytest.raises(UserError) as refused:
        read(source)
    line = str(refused.value)
    assert line.startswith("params.yaml: data.source: found ")
    assert "netrc" in line and "CHARLM_SOURCE_TOKEN" in line
    assert "\n" not in line
    assert "hushhush" not in line and "user:" not in line


@pytest.mark.parametrize(
    "source",
    [
        "https://host/book.txt?download=1",
        "https://host/book.txt?ref=main&author=Twain&keyword=river&passage=2",
        "https://host:8080/2024/speeches-1991-2026-final.txt?raw=true#part-2",
        "https://host:8080/a/mail@example.org.txt",
        "sftp://me@host/book.txt",
        "abfs://container@account.dfs.core.windows.net/book.txt",
        "s3://bucket/book.txt",
        "texts/?sig=1.txt",
        "user:word@book.txt",
    ],
)
def test_harmless_addresses_and_paths_are_allowed(source):
    assert read(source) == source


def test_other_messages_about_the_source_have_no_credentials_either():
    with pytest.raises(UserError) as refused:
        read(["https://user:hushhush@host/book.txt?sig=hushhush"])
    assert "hushhush" not in one_line(refused.value)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://user:word@host/a/book.txt?sig=word", "book.txt"),
        ("https://host/a/book.txt#part", "book.txt"),
        ("texts/what?.txt", "what?.txt"),
        ("notes/", "notes"),
        ("sotu", "sotu"),
    ],
)
def test_the_name_of_a_source_has_neither_login_nor_query(source, name):
    assert source_name(source) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no route to postgresql://charlm:p/w@db:5432/mlflow", "no route to postgresql://db:5432/mlflow"),
        ("postgresql://db/mlflow?user=me&password=word", "postgresql://db/mlflow?user=me&password=…"),
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("models:/charlm@champion", "models:/charlm@champion"),
    ],
)
def test_messages_show_addresses_without_credentials(text, shown):
    assert one_line(text) == shown

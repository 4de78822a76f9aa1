"""The clients that people use, unchanged, against a running server."""

import asyncio
import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path

import openai
import pytest
from openai.types.chat.chat_completion_stream_options_param import ChatCompletionStreamOptionsParam
from serving.conftest import running, served
from support.browser import NEEDS_CHROMIUM
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import CompletionRequest, StreamOptions

WRITER = Writer(random_model())
PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")
# What openai's `create` takes for itself and does not send.
NOT_SENT = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}


def alone(prompt, **options):
    return WRITER.complete(prompt, Sampling(seed=5, **options)).completion


@pytest.fixture(scope="module")
def base(client):
    return f"{client.base_url}/v1"


@pytest.fixture(scope="module")
def ours(base):
    return openai.OpenAI(base_url=base, api_key="none")


def test_every_field_of_openais_client_is_one_of_ours():
    sent = set(inspect.signature(openai.resources.Completions.create).parameters) - NOT_SENT
    assert sent > {"prompt", "user", "best_of"}
    assert sent - set(CompletionRequest.model_fields) == set()
    assert set(ChatCompletionStreamOptionsParam.__annotations__) - set(StreamOptions.model_fields) == set()


@pytest.mark.parametrize("suffix", [None, ""])
@pytest.mark.parametrize("logit_bias", [None, {}])
def test_neutral_values_change_nothing(ours, suffix, logit_bias):
    done = ours.completions.create(
        model="charlm",
        prompt="abc",
        max_tokens=50,
        seed=5,
        n=1,
        best_of=1,
        frequency_penalty=0,
        presence_penalty=0,
        logit_bias=logit_bias,
        suffix=suffix,
        user="someone",
        logprobs=None,
        echo=False,
        stop=None,
        stream=False,
        stream_options=None,
        temperature=1,
        top_p=1,
    )
    assert done.choices[0].text == alone("abc", max_new_chars=50)


def test_openai_penalties(ours):
    done = ours.completions.create(
        model="charlm",
        prompt="abc",
        max_tokens=100,
        seed=5,
        frequency_penalty=1.5,
        presence_penalty=0.5,
        logit_bias={"a": -100},
    )
    options = {"frequency_penalty": 1.5, "presence_penalty": 0.5, "logit_bias": (("a", -100.0),)}
    assert done.choices[0].text == alone("abc", max_new_chars=100, **options)
    assert "a" not in done.choices[0].text


def test_openai_finds_the_model(ours):
    assert ours.models.retrieve("charlm").id == "charlm"
    with pytest.raises(openai.NotFoundError, match="allowed is 'charlm'"):
        ours.models.retrieve("gpt")


def test_a_model_is_known_by_its_own_name_and_as_charlm():
    with running(lambda: served(name="speeches")) as one:
        other = openai.OpenAI(base_url=f"{one.base_url}/v1", api_key="none")
        assert [model.id for model in other.models.list()] == ["speeches"]
        for name in ("speeches", "charlm"):
            assert other.models.retrieve(name).id == "speeches"
            assert other.completions.create(model=name, prompt="abc", max_tokens=5, seed=5).model == "speeches"
        with pytest.raises(openai.NotFoundError, match="found 'gpt', allowed is 'speeches' or 'charlm'"):
            other.completions.create(model="gpt", prompt="abc")


def test_openai_chat_is_refused_with_what_to_do(ours):
    with pytest.raises(openai.NotFoundError, match="POST /v1/completions completes text"):
        ours.chat.completions.create(model="charlm", messages=[{"role": "user", "content": "abc"}])


def test_openai_async_streams(base):
    async def read():
        async with openai.AsyncOpenAI(base_url=base, api_key="none") as one:
            stream = await one.completions.create(model="charlm", prompt="abc", max_tokens=60, seed=5, stream=True)
            return "".join([part.choices[0].text async for part in stream])

    assert asyncio.run(read()) == alone("abc", max_new_chars=60)


def langchain(base, **options):
    from langchain_openai import OpenAI

    return OpenAI(model="charlm", base_url=base, api_key="none", seed=5, max_retries=0, **options)


def test_langchain_completes_and_streams(base):
    expected = alone("abc", max_new_chars=256, temperature=0.7)  # LangChain's own defaults
    assert langchain(base).invoke("abc") == expected
    assert "".join(langchain(base).stream("abc")) == expected
    assert "".join(langchain(base, streaming=True).stream("abc")) == expected


def test_langchain_sends_many_prompts_and_every_option(base):
    llm = langchain(
        base,
        max_tokens=40,
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.3,
        presence_penalty=0.2,
        n=1,
        logit_bias={"a": -100},
    )
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.2,
        "logit_bias": (("a", -100.0),),
    }
    result = llm.generate(["abc", "de"])
    assert [one[0].text for one in result.generations] == [
        alone("abc", max_new_chars=40, **options),
        alone("de", max_new_chars=40, **options),
    ]
    assert result.llm_output["token_usage"]["completion_tokens"] == 80


def test_langchain_shows_what_is_refused(base):
    with pytest.raises(openai.BadRequestError, match="best_of: found 3, allowed is 1"):
        langchain(base, best_of=3).invoke("abc")


def test_litellm_completes_and_streams(base, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its list of prices is in the package
    import litellm

    where = {"model": "text-completion-openai/charlm", "api_base": base, "api_key": "none"}
    options = {"prompt": "abc", "max_tokens": 60, "seed": 5, "temperature": 0.8}
    expected = alone("abc", max_new_chars=60, temperature=0.8)
    done = litellm.text_completion(**where, **options, frequency_penalty=0, presence_penalty=0, user="someone")
    assert done.choices[0].text == expected
    assert done.usage.completion_tokens == 60
    parts = litellm.text_completion(**where, **options, stream=True)
    assert "".join(part.choices[0].text or "" for part in parts) == expected
    with pytest.raises(litellm.BadRequestError, match="best_of"):
        litellm.text_completion(**where, **options, best_of=3)


def test_the_page_names_every_field():
    fields = {*CompletionRequest.model_fields, *(f"stream_options.{name}" for name in StreamOptions.model_fields)}
    table = PAGE[PAGE.index("### Fields of a request") : PAGE.index("### What a response has")]
    assert {name for name in fields - {"stream_options"} if f"`{name}`" not in table} == set()


ADDRESS = "http://127.0.0.1:8000/v1"
# The text of the page's examples that have a seed.
PROMPT, SEED, LENGTH = "The United States are", 7, 200
EXPECTED = WRITER.complete(PROMPT, Sampling(seed=SEED, max_new_chars=LENGTH)).completion


def examples(language):
    found = re.findall(
        rf"```{language}\n(.*?)```", PAGE[PAGE.index("### Clients") : PAGE.index("### Fields")], re.DOTALL
    )
    assert all(ADDRESS in one for one in found)
    return found


def run_python(library, base):
    (code,) = [one for one in examples("python") if f"import {library}\n" in one or f"from {library} import" in one]
    exec(code.replace(ADDRESS, base), {})  # noqa: S102  the page's own code


@pytest.mark.parametrize("library", ["openai", "langchain_openai", "litellm"])
def test_the_pages_examples_run_as_typed(library, base, capsys, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    run_python(library, base)
    assert len(capsys.readouterr().out) >= LENGTH


def test_the_pages_httpx_reads_whole_and_streamed(base, capsys):
    run_python("httpx", base)
    assert capsys.readouterr().out == f"{EXPECTED}\n{EXPECTED}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_pages_curl_reads_whole_and_streamed(base):
    (block,) = examples("bash")
    whole, streamed = re.findall(r"^curl .*?'$(?=\n(?:curl|$)|\Z)", block, re.DOTALL | re.MULTILINE)

    def run(command):
        return subprocess.run(
            ["bash", "-c", command.replace(ADDRESS, base)], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert json.loads(run(whole))["choices"][0]["text"] == EXPECTED
    events = [line.removeprefix("data: ") for line in run(streamed).splitlines() if line]
    assert events.pop() == "[DONE]"
    assert "".join(json.loads(one)["choices"][0]["text"] for one in events) == EXPECTED
    refused = whole.replace(str(LENGTH), "-1")
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(refused)
    assert "max_tokens" in error.value.stdout  # --fail-with-body


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node here")
@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_the_pages_javascript_runs_in_node(base, way):
    code = dict(zip(("whole", "streamed"), examples("js"), strict=True))[way].replace(ADDRESS, base)

    def run(code):
        command = ["node", "--input-type=module", "-e", code]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert run(code).stdout == f"{EXPECTED}\n"
    refused = run(code.replace(f"max_tokens: {LENGTH}", "max_tokens: -1"))
    assert refused.returncode == 1
    assert "max_tokens: found -1" in refused.stderr


@pytest.mark.slow
@pytest.mark.end_to_end
@NEEDS_CHROMIUM
def test_the_pages_javascript_runs_on_another_origins_page(browser):
    page, lines = browser.new_page(bypass_csp=True), []  # this site's own policy is not the point
    page.on("console", lambda message: lines.append(message.text) if message.type == "log" else None)
    # Chromium asks its user before a page of the internet may reach this machine, so the page is from this machine too.
    with running() as site, running(cors=(f"http://localhost:{site.base_url.port}",)) as one:
        page.goto(f"http://localhost:{site.base_url.port}/healthz")
        for code in examples("js"):
            page.evaluate(f"async () => {{ {code.replace(ADDRESS, f'{one.base_url}/v1')} }}")
    page.close()
    assert lines == [EXPECTED, EXPECTED]

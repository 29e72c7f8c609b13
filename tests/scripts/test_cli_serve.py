"""A packed model served on the simulated device, as clients see it."""

import asyncio
import json
import shutil
import signal
import subprocess

import openai
import pytest

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model.backends import Cost
from tritstream.host.model.generation import generate_text
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.prompts import chat_tokens, text_tokens

from support.cli_helpers import command_fails, run_command
from support.load import expected, health, requests_of, run_load
from support.model_helpers import CHAT_TEMPLATE, MODEL, PROMPT
from support.serving import serving_model

MESSAGES = [{"role": "system", "content": "It rained."}, {"role": "user", "content": "Who?"}]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return path


@pytest.fixture(scope="module")
def url(packed):
    with serving_model(packed, "--device", "sim:lanes=16,columns=4") as (process, url):
        yield url
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, "stopped\n")
        assert "Traceback" not in err


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def golden(packed):
    """Text and tokens of golden after the tokens of a prompt."""
    model, tokenizer = load_model(packed, backend="golden"), load_tokenizer(packed)

    def run(prompt, count):
        ids = (text_tokens(tokenizer, prompt) if isinstance(prompt, str)
               else chat_tokens(tokenizer, prompt))
        return generate_text(model, tokenizer, ids, count, emit=lambda text: None, take_cost=Cost)
    return run


def test_the_client_of_openai_gets_the_texts_of_golden(client, golden):
    model, = client.models.list()
    assert (model.id, model.owned_by) == ("d3", "tritstream")
    assert client.models.retrieve("d3").id == "d3"
    asked = {"model": "d3", "temperature": 0, "max_tokens": 6}
    chat, text = golden(MESSAGES, 6), golden(PROMPT, 6)
    answer = client.chat.completions.create(messages=MESSAGES, **asked)
    assert answer.choices[0].message.content == chat.text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == len(chat.prompt) and answer.usage.completion_tokens == 6
    assert answer.usage.model_extra["device_cycles"]["decode"] > 0
    assert client.completions.create(prompt=PROMPT, **asked).choices[0].text == text.text
    stopped = client.completions.create(prompt=PROMPT, stop=text.text[3:6], **asked).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text.text[:3], "stop")


def test_streams_of_the_client_of_openai(client, golden):
    asked = {"model": "d3", "temperature": 0, "max_tokens": 6, "stream": True}
    *parts, last = client.chat.completions.create(
        messages=MESSAGES, stream_options={"include_usage": True}, **asked)
    assert parts[0].choices[0].delta.role == "assistant"
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == golden(MESSAGES, 6).text
    assert [part.choices[0].finish_reason for part in parts[-2:]] == [None, "length"]
    assert last.choices == [] and last.usage.completion_tokens == 6
    assert {part.usage for part in parts} == {None} and len({part.id for part in parts}) == 1
    parts = list(client.completions.create(prompt=PROMPT, **asked))
    assert "".join(part.choices[0].text for part in parts) == golden(PROMPT, 6).text
    assert len(parts) > 4 and parts[-1].choices[0].finish_reason == "length"


def test_errors_of_the_client_of_openai(client):
    with pytest.raises(openai.NotFoundError, match="the model 'gpt' does not exist"):
        client.completions.create(model="gpt", prompt="x")
    with pytest.raises(openai.BadRequestError, match="ask for at most 511") as error:
        client.completions.create(model="d3", prompt="x", max_tokens=600)
    assert error.value.code == "context_length_exceeded"


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_a_stream_of_curl(url, golden):
    asked = {"model": "d3", "messages": MESSAGES, "temperature": 0, "max_tokens": 6, "stream": True}
    done = subprocess.run(
        ["curl", "-sSN", "-D", "-", f"{url}/chat/completions", "-H",
         "Content-Type: application/json", "-d", json.dumps(asked)],
        capture_output=True, text=True, timeout=300, check=True)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "content-type: text/event-stream; charset=utf-8" in head
    *events, done, rest = body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    parts = [json.loads(event.removeprefix("data: ")) for event in events]
    assert golden(MESSAGES, 6).text == "".join(
        part["choices"][0]["delta"].get("content", "") for part in parts)


def test_requests_at_once_and_clients_that_leave(url, packed):
    check_load(url, packed, 12, 3, 5)


@pytest.mark.long
def test_many_requests_at_once(packed):
    with serving_model(packed, "--device", "sim:lanes=16,columns=4") as (_, url):
        check_load(url, packed, 60, 12, 16)


def check_load(url, packed, count, cancelled, tokens):
    before, requests = health(url), requests_of(count, tokens, cancelled)
    load = run_load(url, "d3", requests, expected(packed, requests))
    assert (load.wrong, load.lost) == ([], [])
    assert (load.right, load.cancelled) == (count - cancelled, cancelled)
    found = asyncio.run(settled(url))
    assert found["finished"] - before["finished"] == count - cancelled
    assert found["cancelled"] - before["cancelled"] == cancelled
    assert found["failed"] == before["failed"] and found["status"] == "ok"
    # Four columns share a pass: a token alone takes 37728 cycles.
    cycles, new = (found["decode"][name] - before["decode"][name]
                   for name in ("device_cycles", "tokens"))
    assert 10_000 < cycles / new < 0.5 * 37728


async def settled(url):
    """The figures when nothing runs any more."""
    async with asyncio.timeout(300):
        while (found := health(url))["running"] + found["waiting"]:
            await asyncio.sleep(0.1)
    return found


def test_refused_options(packed, monkeypatch):
    monkeypatch.delenv("TRITSTREAM_API_KEY", raising=False)
    for listen, host in (("0.0.0.0:0", "0.0.0.0"), ("[::]:0", "::"), ("192.0.2.1:80", "192.0.2.1"),
                         ("example.org:80", "example.org")):
        assert command_fails("serve", packed, "--listen", listen) == (
            f"other machines reach {host}, so requests must have a key: set TRITSTREAM_API_KEY or "
            "--api-key, or listen on 127.0.0.1")
    for key in ("", " x", "a\nb", "ключ"):
        assert command_fails("serve", packed, "--api-key", key) == (
            "the key must have printable ASCII characters, without a space at its ends")
    monkeypatch.setenv("TRITSTREAM_API_KEY", "s3cret")
    assert command_fails("serve", packed, "--listen", "192.0.2.1:7354") == (
        "cannot listen on 192.0.2.1 port 7354 (Cannot assign requested address); choose another "
        "with --listen")
    assert command_fails("serve", packed, "--listen", "8000") == (
        "8000: listen must be HOST:PORT, such as 127.0.0.1:8000")
    assert run_command("serve", packed, "--parallel", 0)[0] == 2


def test_the_old_command_names_the_new_one():
    assert command_fails("serve", "--device", "sim:lanes=4", "--listen", "127.0.0.1:0") == (
        "serve needs the directory of a packed model; the command that shares a device over TCP is "
        "`tritstream share-device`")

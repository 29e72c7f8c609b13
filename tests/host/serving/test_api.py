"""What the API takes, and how it refuses the rest: each refusal with its status and its reason."""

import json

import pytest
from fastapi.testclient import TestClient

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.errors import DeviceError
from tritstream.host.model.backends import ReferenceBackend
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.serving.app import make_app
from tritstream.host.serving.engine import Busy, Engine, Stopped
from tritstream.host.serving.service import Service
from tritstream.host.serving.sharing import SharedBackend

from support.golden_helpers import run_python
from support.model_helpers import CHAT_TEMPLATE, MODEL

TEXT = {"model": "tiny", "prompt": "She had always", "temperature": 0, "max_tokens": 4}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Who?"}], "temperature": 0,
        "max_tokens": 4}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return path


@pytest.fixture(scope="module")
def service(packed):
    model = load_model(packed, backend=SharedBackend(ReferenceBackend()))
    tokenizer = load_tokenizer(packed)
    with Engine(model, tokenizer, 2) as engine:
        yield Service("tiny", model, tokenizer, engine)


@pytest.fixture(scope="module")
def client(service):
    return TestClient(make_app(service))


def refusal(answer):
    """Status, reason, field and code of an error, whose form is OpenAI's."""
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"} and set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["message"], error["param"], error["code"]


@pytest.mark.parametrize(("fields", "message", "param", "code"), [
    ({"n": 2}, "n is supported only as 1; leave it out", "n", "unsupported_value"),
    ({"best_of": 3}, "best_of is supported only as 1; leave it out", "best_of",
     "unsupported_value"),
    ({"echo": True}, "echo is supported only as false; leave it out", "echo",
     "unsupported_value"),
    ({"logprobs": 5}, "logprobs is supported only as false or 0; leave it out", "logprobs",
     "unsupported_value"),
    ({"presence_penalty": 0.5}, "presence_penalty is supported only as 0; leave it out",
     "presence_penalty", "unsupported_value"),
    ({"guided_json": {}}, "guided_json is unknown; leave it out", "guided_json",
     "unknown_parameter"),
    ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1", "max_tokens",
     None),
    ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer", "max_tokens", None),
    ({"max_tokens": 510}, "the context of the model has 512 tokens, the prompt has 3 and 510 new "
     "ones are asked for; ask for at most 509, or shorten the prompt", None,
     "context_length_exceeded"),
    ({"prompt": "a" * 2000}, "the context of the model has 512 tokens, the prompt has 2000 and 4 "
     "new ones are asked for; shorten the prompt", None, "context_length_exceeded"),
    ({"temperature": -1}, "temperature must be 0, or finite and at least 1e-06, not -1.0",
     "temperature", None),
    ({"top_p": 2}, "top-p must be above 0 and at most 1, not 2.0", "top_p", None),
    ({"top_k": -3}, "top-k must be 0 or more, not -3", "top_k", None),
    ({"stop": ["a", ""]}, "stop must not have an empty text", "stop", None),
    ({"stream_options": {"include_usage": True}}, "stream_options needs stream = true",
     "stream_options", None),
    ({"prompt": ["a", "b"]}, "prompt must be one text, not 2; send one request per text: requests "
     "that wait together share their work", "prompt", None),
    ({"prompt": []}, "the prompt has no token; give some text", "prompt", None),
    ({"prompt": ""}, "the prompt has no token; give some text", "prompt", None),
    ({"prompt": [1, 1024]}, "tokens are 0..1023, not 1024", "prompt", None),
    ({"prompt": "\ud800"}, "the prompt is not UTF-8 at byte 0; give it in UTF-8", "prompt", None),
    ({"prompt": None}, "prompt: Input should be a valid string", "prompt", None),
])
def test_refused_completions(client, fields, message, param, code):
    asked = json.dumps(TEXT | fields)
    answer = client.post("/v1/completions", content=asked,
                         headers={"Content-Type": "application/json"})
    assert refusal(answer) == (400, message, param, code)


@pytest.mark.parametrize(("fields", "message", "param"), [
    ({"tools": [{"type": "function"}]}, "tools is supported only as []; leave it out",
     "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format is supported only as "
     '{"type": "text"}; leave it out', "response_format"),
    ({"messages": []}, "messages: List should have at least 1 item after validation, not 0",
     "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be 'system', "
     "'developer', 'user' or 'assistant'", "messages"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required", "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
     "messages.0.content.0.type: Input should be 'text'", "messages"),
    ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
     "messages.0.tool_calls is supported only as []; leave it out",
     "messages.0.tool_calls"),
])
def test_refused_conversations(client, fields, message, param):
    status, said, field, _ = refusal(client.post("/v1/chat/completions", json=CHAT | fields))
    assert (status, said, field) == (400, message, param)


def test_refused_by_address_and_form(client):
    assert refusal(client.post("/v1/completions", json=TEXT | {"model": "gpt"})) == (
        404, "the model 'gpt' does not exist; this server has 'tiny'", "model", "model_not_found")
    assert refusal(client.get("/v1/models/gpt"))[0] == 404
    assert refusal(client.get("/v1/embeddings")) == (
        404, "GET /v1/embeddings: Not Found", None, None)
    assert refusal(client.get("/v1/completions")) == (
        405, "GET /v1/completions: Method Not Allowed", None, None)
    as_json = {"Content-Type": "application/json"}
    assert refusal(client.post("/v1/completions", content="{", headers=as_json)) == (
        400, "the body is not JSON (Expecting property name enclosed in double quotes)", None, None)
    for content, headers in (("[]", as_json), (json.dumps(TEXT), {"Content-Type": "text/plain"})):
        assert refusal(client.post("/v1/completions", content=content, headers=headers)) == (
            400, "the body must be a JSON object, sent as application/json", None, None)


def test_a_body_that_is_too_long(client):
    def body():
        for _ in range(9):
            yield b" " * (1 << 20)

    for content in (b" " * (8 << 20) + b"{}", body()):
        assert refusal(client.post("/v1/completions", content=content,
                                   headers={"Content-Type": "application/json"})) == (
            413, "POST /v1/completions: the body has more than 8388608 bytes", None, None)


def test_a_checkpoint_without_a_template(service, client, monkeypatch):
    monkeypatch.setattr(service.tokenizer, "chat_template", None)
    status, said, field, _ = refusal(client.post("/v1/chat/completions", json=CHAT))
    assert (status, field) == (400, "messages")
    assert said.endswith("d3: has no chat template; use /v1/completions")


def test_fields_that_change_nothing(client):
    neutral = {"n": 1, "logprobs": None, "user": "me", "presence_penalty": 0.0, "seed": -1,
               "stop": None, "stream": False}
    plain = client.post("/v1/completions", json=TEXT).json()["choices"]
    assert client.post("/v1/completions", json=TEXT | neutral).json()["choices"] == plain
    as_tokens = load_tokenizer(MODEL)("She had always").input_ids
    for prompt in (as_tokens, [as_tokens], ["She had always"]):
        found = client.post("/v1/completions", json=TEXT | {"prompt": prompt}).json()
        assert found["choices"] == plain


def test_parts_of_a_message_and_names_of_roles(client):
    plain = client.post("/v1/chat/completions", json=CHAT | {"messages": [
        {"role": "system", "content": "It rained."}, {"role": "user", "content": "Who?"}]}).json()
    parts = client.post("/v1/chat/completions", json=CHAT | {"messages": [
        {"role": "developer", "content": "It rained."}, {"role": "user", "name": "me", "content": [
            {"type": "text", "text": "Wh"}, {"type": "text", "text": "o?"}]}]}).json()
    assert parts["choices"] == plain["choices"] and parts["usage"] == plain["usage"]
    assert plain["choices"][0]["finish_reason"] == "length"


def test_limits_of_an_answer(client):
    def count(path, asked, **fields):
        return client.post(path, json=asked | fields).json()["usage"]["completion_tokens"]

    without = {name: value for name, value in TEXT.items() if name != "max_tokens"}
    assert count("/v1/completions", without) == 16
    assert count("/v1/chat/completions", CHAT, max_completion_tokens=2, max_tokens=9) == 2


def test_a_key(service):
    locked = Service("tiny", service.model, service.tokenizer, service.engine, key="s3cret")
    client = TestClient(make_app(locked))
    for header, said in (({}, "is missing"), ({"Authorization": "Bearer other"}, "is wrong"),
                         ({"Authorization": "Basic s3cret"}, "is wrong"),
                         ({"Authorization": "Bearer s3cret "[:-2]}, "is wrong")):
        for answer in (client.get("/v1/models", headers=header),
                       client.post("/v1/completions", json=TEXT, headers=header)):
            assert refusal(answer) == (
                401, f"the key {said}; send the header Authorization: Bearer KEY", None,
                "invalid_api_key")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    right = {"Authorization": "Bearer s3cret"}
    assert client.get("/v1/models", headers=right).json()["data"][0]["id"] == "tiny"
    assert client.get("/health").status_code == 200


def test_names_of_the_server(service):
    local = Service("tiny", service.model, service.tokenizer, service.engine,
                    hosts=frozenset({"localhost", "::1"}))
    client = TestClient(make_app(local))
    for host, status in (("localhost:8000", 200), ("[::1]:8000", 200), ("evil.example", 403)):
        assert client.get("/v1/models", headers={"Host": host}).status_code == status
    assert refusal(client.get("/v1/models")) == (
        403, "the host 'testserver' is not this server; use ::1 or localhost", None, "unknown_host")


def test_temperature_of_the_checkpoint_or_of_the_api(service, client, monkeypatch):
    jobs = []
    monkeypatch.setattr(service.engine, "submit", lambda job: (
        jobs.append(job), job.receive(DeviceError("stop here"))))
    asked = {name: value for name, value in TEXT.items() if name != "temperature"}
    client.post("/v1/completions", json=asked)
    monkeypatch.setattr(service.model.generation_config, "do_sample", True)
    monkeypatch.setattr(service.model.generation_config, "temperature", 0.6)
    client.post("/v1/completions", json=asked | {"seed": 5})
    assert [job.sampling.temperature for job in jobs] == [1.0, 0.6]
    assert jobs[1].sampling.seed == 5 != jobs[0].sampling.seed


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_characters_of_several_tokens_are_streamed_whole(service, client, path):
    text = "“naïve” 漢字 🎉!"
    ids, passes = service.tokenizer(text).input_ids, iter(range(100))

    def choose(_, __, results):
        results.logits[..., ids[next(passes) % len(ids)]] = 1e6

    hook = service.model.register_forward_hook(choose)
    asked = {**(TEXT if path == "/v1/completions" else CHAT), "stream": True}
    for count in (len(ids), len(ids) - 3):
        passes = iter(range(100))
        parts = [json.loads(line.removeprefix("data: "))["choices"][0] for line in client.post(
            path, json=asked | {"max_tokens": count}).text.split("\n\n")[:-2]]
        found = [part["text"] if "text" in part else part["delta"].get("content", "")
                 for part in parts]
        # Without the last tokens, the emoji has not all of its bytes.
        assert "".join(found) == (text if count == len(ids) else "“naïve” 漢字 ")
        assert not any("\ufffd" in part for part in found) and len(found) > 8
    hook.remove()


def test_errors_of_a_generation(service, client, monkeypatch, caplog):
    monkeypatch.setattr(service.engine, "submit",
                        lambda job: job.receive(DeviceError("layer.1: gave up")))
    assert refusal(client.post("/v1/completions", json=TEXT)) == (
        503, "the device failed: layer.1: gave up", None, "device_error")
    lines = client.post("/v1/completions", json=TEXT | {"stream": True}).text.split("\n\n")
    assert json.loads(lines[0].removeprefix("data: "))["error"]["code"] == "device_error"
    assert lines[1:] == [""]
    assert caplog.messages == ["the device failed: layer.1: gave up"] * 2
    for error, status, code, said in (
            (Busy("try later"), 503, "server_overloaded", "try later"),
            (Stopped("it stops"), 503, "server_stopped", "it stops"),
            (CheckpointError("m: NaN"), 500, "model_error", "m: NaN"),
            (KeyError("x"), 500, "internal_error", "the server failed (KeyError: 'x')")):
        monkeypatch.setattr(service.engine, "submit", lambda job, e=error: job.receive(e))
        assert refusal(client.post("/v1/completions", json=TEXT)) == (status, said, None, code)
    assert caplog.messages[2:] == ["a generation failed"]
    assert "KeyError" in caplog.text


def test_without_the_packages_the_command_says_what_to_install():
    done = run_python("import sys; sys.modules['fastapi'] = None; import tritstream.host.serving")
    assert "serving needs fastapi, uvicorn and greenlet: pip install 'tritstream[serve,torch]'" in (
        done.stderr)

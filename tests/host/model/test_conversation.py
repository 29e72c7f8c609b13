import shutil

import pytest

from tritstream.host.model.backends import Cost
from tritstream.host.model.conversation import Conversation
from tritstream.host.model.generation import generate_text
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.prompts import chat_tokens
from tritstream.host.model.sampling import Sampling

from support.golden_helpers import message
from support.model_helpers import CHAT_TEMPLATE, MODEL


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("chat") / "m"
    shutil.copytree(MODEL, path)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return load_model(path), load_tokenizer(path)


def conversation(chat_model, tokens=6, take_cost=Cost, **options):
    return Conversation(*chat_model, take_cost, tokens=tokens, **options)


def roles(talk):
    return "".join(one["role"][0] for one in talk.messages)


def test_an_answer_follows_from_all_messages_before(chat_model):
    talk, parts = conversation(chat_model, system="It rained."), []
    first = talk.ask("Where were you?", parts.append)
    second = talk.ask("And you?", lambda text: None)
    assert "".join(parts) == first.text
    assert roles(talk) == "suaua"
    model, tokenizer = chat_model
    prompt = chat_tokens(tokenizer, talk.messages[:-1])
    assert tokenizer.decode(prompt) == (
        f"[system]It rained.[user]Where were you?[assistant]{first.text}[user]And you?[answer]")
    assert second.tokens == generate_text(model, tokenizer, prompt, 6, emit=lambda text: None,
                                          take_cost=Cost).tokens


def test_another_answer_and_another_beginning(chat_model):
    talk = conversation(chat_model, sampling=Sampling(1.5, seed=(1 << 64) - 1))
    with pytest.raises(ValueError, match=message("there is no answer yet")):
        talk.ask_again(print)
    first = talk.ask("Who?", lambda text: None).text
    second = talk.ask_again(lambda text: None).text
    assert first != second and talk.messages[1:] == [{"role": "assistant", "content": second}]
    talk.reset("Be kind.")
    assert roles(talk) == "s" and talk.system == "Be kind."


def test_a_context_that_is_full(chat_model):
    talk = conversation(chat_model, tokens=500)
    result = talk.ask("a " * 490, lambda text: None)
    assert len(result.prompt) + len(result.tokens) == 512 and result.is_cut
    before = talk.messages
    with pytest.raises(ValueError, match=(
            r"^the conversation has \d+ tokens with this message, and the context of the model is "
            "512; begin a new conversation$")):
        talk.ask("More?", print)
    assert talk.messages == before
    talk.messages = [{"role": "user", "content": "b " * 600}, before[-1]]
    with pytest.raises(ValueError, match="the conversation has"):
        talk.ask_again(print)
    assert roles(talk) == "ua"


def test_an_interrupted_answer_stays_as_far_as_it_came(chat_model):
    costs = iter([Cost(), Cost()])

    def take_cost():
        for cost in costs:
            return cost
        raise KeyboardInterrupt

    talk = conversation(chat_model, take_cost=take_cost)
    result = talk.ask("Who?", lambda text: None)
    assert result.interrupted and len(result.tokens) == 2
    assert talk.messages[-1] == {"role": "assistant", "content": result.text}


def test_a_template_that_refuses(chat_model, monkeypatch):
    monkeypatch.setattr(chat_model[1], "chat_template", "{{ raise_exception('no system') }}")
    with pytest.raises(ValueError, match=message(
            "the chat template refuses the messages (no system)")):
        conversation(chat_model).ask("Who?", print)

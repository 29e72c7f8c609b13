import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritstream.host.model.load import load_tokenizer
from tritstream.host.model.text_stream import TextStream

from support.golden_helpers import message
from support.model_helpers import MODEL

TEXTS = ["naïve café — “oui”", "漢字とカナ", "🎉👩‍👩‍👧 fin", "ｆｕｌｌ", "Ω of\n\n b\tc\r\n",
         " leað"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MODEL)


def streamed(tokenizer, ids, stops=()):
    """The parts of the text, and the stream."""
    parts = []
    stream = TextStream(tokenizer, parts.append, stops)
    for token in ids:
        if not stream.stopped:
            stream.put(token)
    stream.end()
    assert stream.text == "".join(parts) and "" not in parts
    return parts, stream


@pytest.mark.parametrize("text", TEXTS)
def test_characters_come_whole(tokenizer, text):
    ids = tokenizer(text).input_ids
    parts, stream = streamed(tokenizer, ids)
    assert stream.text == text
    assert not any("\ufffd" in part for part in parts)
    # These tokens are bytes: characters of several bytes have several tokens.
    assert len(ids) > len(parts) > 1


@pytest.mark.parametrize("text", TEXTS)
def test_an_incomplete_character_at_the_end_is_left_out(tokenizer, text):
    ids = tokenizer(text).input_ids
    for count in range(len(ids)):
        _, stream = streamed(tokenizer, ids[:count])
        assert text.startswith(stream.text)
        assert stream.text == tokenizer.decode(ids[:count]).rstrip("\ufffd")


def test_bytes_that_are_no_character_are_told_as_such(tokenizer):
    broken = [*tokenizer("é").input_ids[:1], *tokenizer(" is it").input_ids]
    assert streamed(tokenizer, broken)[1].text == tokenizer.decode(broken) == "\ufffd is it"


def test_special_tokens_have_no_text(tokenizer):
    a, b = tokenizer("one").input_ids, tokenizer(" two").input_ids
    assert streamed(tokenizer, [*a, 0, *b, 0])[1].text == "one two"


@settings(max_examples=300)
@given(text=st.text("ab é", min_size=1, max_size=24), stop=st.text("ab é", min_size=1, max_size=5))
def test_text_ends_before_a_stop_text(tokenizer, text, stop):
    ids = [one for letter in text for one in tokenizer(letter).input_ids]
    parts, stream = streamed(tokenizer, ids, [stop])
    assert stream.text == text.partition(stop)[0]
    assert stream.stopped == (stop in text)
    # Nothing is held back that cannot become a stop text.
    if text[-1] not in stop and len(parts) > 1:
        assert stream.stopped or len(parts[-1]) <= len(stop) + 1


def test_the_first_of_several_stop_texts_counts(tokenizer):
    ids = tokenizer("one two three").input_ids
    assert streamed(tokenizer, ids, ["three", "two", "x"])[1].text == "one "
    assert streamed(tokenizer, ids, ["zero"])[1].text == "one two three"


def test_an_empty_stop_text():
    with pytest.raises(ValueError, match=message("a stop text must not be empty")):
        TextStream(None, print, ["a", ""])

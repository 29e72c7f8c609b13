"""generation_config.json: settings that are used, settings that are not, and broken ones."""

import shutil

import pytest

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.model.backends import Cost
from tritstream.host.model.generation import generate_text
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.prompts import prompt_tokens
from tritstream.host.model.sampling import Sampling
from tritstream.host.model.settings import CheckpointError, only_used

from support.cli_helpers import command_fails, run_command
from support.golden_helpers import message, write_json
from support.lfs_pointer import IS_POINTER, POINTER
from support.model_helpers import MODEL, PROMPT


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    return path


@pytest.fixture
def model(tmp_path):
    shutil.copytree(MODEL, tmp_path / "m")
    return tmp_path / "m"


def text_of(path, settings=None, **options):
    if settings is not None:
        write_json(path / "generation_config.json", settings)
    tokenizer = load_tokenizer(path)
    return generate_text(load_model(path), tokenizer, prompt_tokens(tokenizer, PROMPT, False), 6,
                         emit=lambda text: None, take_cost=Cost, **options)


@pytest.mark.parametrize(("settings", "unused"), [
    ({}, []),
    ({"num_beams": 4, "length_penalty": 2.0}, ["length_penalty", "num_beams"]),
    ({"num_beams": 1, "num_return_sequences": 1, "diversity_penalty": 0.0}, []),
    ({"low_memory": False, "early_stopping": False}, []),
    ({"num_beams": "x"}, ["num_beams"]), ({"num_return_sequences": 3}, ["num_return_sequences"]),
    ({"penalty_alpha": 0.6, "top_k": 4}, ["penalty_alpha"]),
    ({"dola_layers": "low", "token_healing": True}, ["dola_layers", "token_healing"]),
    ({"force_words_ids": [[3]], "constraints": [1]}, ["constraints", "force_words_ids"]),
    ({"prompt_lookup_num_tokens": 3}, ["prompt_lookup_num_tokens"]),
    ({"cache_implementation": "nope"}, ["cache_implementation"]),
    ({"chat_format": "chatml", "transformers_version": "4.0"}, ["chat_format"]),
    ({"max_length": 2, "max_new_tokens": 99, "use_cache": False, "output_scores": True}, []),
    ({"temperature": 0.6, "top_p": 0.9}, []),
])
def test_what_has_no_effect_is_named(model, settings, unused):
    plain = text_of(model, {})
    found = text_of(model, settings)
    assert (found.tokens, found.unused) == (plain.tokens, unused)


def test_what_has_an_effect(model):
    plain = text_of(model, {})
    assert plain.text == " deal of the count"
    stopped = text_of(model, {"stop_strings": ["of the"]})
    assert stopped.tokens == plain.tokens[:len(stopped.tokens)]
    assert stopped.text.endswith("of the") and len(stopped.tokens) < len(plain.tokens)
    assert text_of(model, {"suppress_tokens": plain.tokens[:1]}).tokens[0] != plain.tokens[0]
    ended = text_of(model, {"eos_token_id": [plain.tokens[1]]})
    assert ended.tokens == plain.tokens[:2]


def test_the_options_of_a_loaded_model_are_restored(model):
    write_json(model / "generation_config.json", {"num_beams": 4, "top_k": 7})
    loaded = load_model(model)
    with only_used(loaded) as unused:
        assert (loaded.generation_config.num_beams, loaded.generation_config.top_k) == (None, 7)
    assert unused == ["num_beams"]
    assert (loaded.generation_config.num_beams, loaded.generation_config.top_k) == (4, 7)


@pytest.mark.parametrize(("content", "reason"), [
    (b"{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char "
           "1)); copy the file again"),
    (b"[1]", "must hold a JSON object; copy the file again"),
    (b'{"top_k": "\xff"}', "not JSON ('utf-8' codec can't decode byte 0xff in position 11: invalid "
                           "start byte); copy the file again"),
    (b"\xef\xbb\xbf{}", "begins with a byte-order mark; save it as UTF-8 without one"),
    (POINTER, IS_POINTER),
    (b'{"eos_token_id": "x"}', "eos_token_id must be the number of a token, or a list of them, not "
                               "'x'; correct it or remove the file"),
    (b'{"suppress_tokens": [1, 2.5]}', "suppress_tokens must be the number of a token, or a list "
                                       "of them, not [1, 2.5]; correct it or remove the file"),
])
def test_a_broken_file_is_named(packed, model, content, reason):
    for path in (packed, model):
        file = path / "generation_config.json"
        whole = file.read_bytes() if file.is_file() else None
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=message(f"{file}: {reason}")):
            load_model(path)
        file.unlink() if whole is None else file.write_bytes(whole)


@pytest.mark.parametrize(("settings", "reason"), [
    ({"repetition_penalty": -2}, "`penalty` has to be a strictly positive float, but is -2"),
    ({"bad_words_ids": 3}, "`bad_words_ids` has to be a non-empty list, but is 3."),
])
def test_settings_that_transformers_refuses(model, settings, reason):
    with pytest.raises(CheckpointError, match=message(
            f"{model}: transformers cannot generate with its settings ({reason}); correct "
            "generation_config.json")):
        text_of(model, settings)


def test_an_error_of_the_model_is_not_taken_for_one_of_its_settings(model):
    tokenizer, loaded = load_tokenizer(model), load_model(model)

    def fail(*_):
        raise ValueError("a broken layer")

    loaded.get_input_embeddings().register_forward_hook(fail)
    with pytest.raises(ValueError, match="^a broken layer$"):
        generate_text(loaded, tokenizer, [1, 2], 2, emit=print, take_cost=Cost)


@pytest.mark.parametrize(("options", "reason"), [
    ({"seed": 1 << 64}, "seed must be 0..18446744073709551615, not 18446744073709551616"),
    ({"seed": -1}, "seed must be 0..18446744073709551615, not -1"),
    *(({"temperature": value}, f"temperature must be 0, or finite and at least 1e-06, not {value}")
      for value in (-1.0, 1e-40, float("nan"), float("inf")))])
def test_sampling_out_of_range(options, reason):
    with pytest.raises(ValueError, match=message(reason)):
        Sampling(**options)


def test_the_largest_seed():
    found = [text_of(MODEL, sampling=Sampling(1.0, seed=(1 << 64) - 1)).tokens for _ in range(2)]
    assert found[0] == found[1]


def test_prompts_that_are_no_text():
    tokenizer = load_tokenizer(MODEL)
    for prompt, at in (("caf\udce9", 3), ("\ud800", 0)):
        with pytest.raises(ValueError, match=message(
                f"the prompt is not UTF-8 at byte {at}; give it in UTF-8")):
            prompt_tokens(tokenizer, prompt, False)
    # As Python has the bytes of UTF-8 in an argument where the locale is of ASCII.
    assert prompt_tokens(tokenizer, "caf\udcc3\udca9", False) == prompt_tokens(
        tokenizer, "café", False)


def test_the_command_tells(packed, tmp_path):
    path = tmp_path / "p"
    shutil.copytree(packed, path)
    write_json(path / "generation_config.json", {"num_beams": 4})
    asked = ["generate", path, "--prompt", PROMPT, "--tokens", 2, "--backend", "reference"]
    code, out, said = run_command(*asked)
    assert (code, said) == (
        0, f"warning: {path / 'generation_config.json'}: not used here: num_beams\n")
    assert out.startswith(" deal")
    assert command_fails(*asked, "--prompt", "caf\udce9") == (
        "the prompt is not UTF-8 at byte 3; give it in UTF-8")
    code, _, said = run_command(*asked, "--seed", 1 << 64)
    assert code == 2 and "18446744073709551615" in said


def test_a_path_that_transformers_cannot_open(packed, tmp_path):
    path = tmp_path / "p\udcff"
    path.symlink_to(packed)
    for use in (load_model, load_tokenizer):
        with pytest.raises(CheckpointError, match=message(
                rf"{tmp_path}/p\xff: transformers opens paths in UTF-8 only; rename the "
                "directory")):
            use(path)
    asked = ["generate", packed, "--prompt", PROMPT, "--tokens", 2, "--backend", "reference"]
    code, out, said = run_command(*asked, "--compare", path)
    assert (code, out) == (1, "") and "transformers opens paths in UTF-8 only" in said


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_a_pointer(model, name):
    (model / name).write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=message(f"{model / name}: {IS_POINTER}")):
        load_tokenizer(model)

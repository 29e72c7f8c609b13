"""Shapes of published models against their published counts, and the layout of their forms."""

import math
import re

import numpy as np
import pytest

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.packed_matrix import packed_matrix
from tritstream.host.layout.cost import product_cost
from tritstream.host.layout.prepare import prepare
from tritstream.host.layout.shapes import SHAPES, WeightForm, model_shape

from support.golden_cases import direct_matrix, integer_matrix

#: Packed weights of all matrices that a token needs: those of the layers, and a ternary head.
WEIGHTS = {
    "bitnet-2b4t": 2_084_044_800, "bonsai-1.7b": 1_720_451_072, "bonsai-8b": 7_568_097_280,
    "qwen2.5-0.5b": 357_826_560, "qwen2.5-32b": 31_205_621_760,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_a_token(name):
    model = SHAPES[name]
    assert model.weights == WEIGHTS[name]
    assert model.weights == sum(math.prod(shape) for _, shape in model.matrices())


def test_bonsai_27b_has_the_weights_that_were_counted():
    """A census of the released file counts the embedding, too."""
    model = SHAPES["bonsai-27b"]
    assert model.weights + math.prod(model.head) == 26_869_760_000
    assert len(list(model.matrices())) == 48 * 6 + 16 * 7 + 1
    names = dict(model.matrices())
    assert names["model.layers.0.linear_attn.in_proj_qkv"] == (10240, 5120)
    assert names["model.layers.3.self_attn.q_proj"] == (12288, 5120)
    assert "model.layers.3.linear_attn.out_proj" not in names


def test_layers_leave_the_head_out():
    model = SHAPES["bonsai-8b"]
    assert [name for name, _ in model.matrices(1)] == [
        f"model.layers.0.{module}" for module in QWEN25["0.5B"].linear()]
    assert list(model.matrices())[-1] == ("lm_head", (151936, 4096))
    assert "lm_head" not in dict(SHAPES["bitnet-2b4t"].matrices())


FORMS = [
    (WeightForm(3), integer_matrix(61, 208, 3)),
    (WeightForm(2, 64), integer_matrix(61, 208, 2, group=64)),
    (WeightForm(1, 128, True), direct_matrix(57, 300, 1, 128)),
    (WeightForm(3, 512, True), direct_matrix(43, 300, 3, 304)),
    (WeightForm(1, None, True), direct_matrix(57, 1500, 1, 1504, single=True)),
]


@pytest.mark.parametrize(("form", "matrix"), FORMS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_forms_are_those_of_prepared_matrices(form, matrix, lanes):
    prepared = prepare(matrix if form.group == GROUP else packed_matrix(matrix), lanes, 32768)
    assert form.scale_words(matrix.columns) == prepared.scales
    words = sum(part.nbytes for part in prepared.parts) // lanes
    assert product_cost(matrix.shape, form, lanes).words == words


@pytest.mark.parametrize(("form", "stored"), [
    (WeightForm(3), 5.1), (WeightForm(1, 128, True), 1.725), (WeightForm(1, 64, True), 1.85),
    (WeightForm(1, 256, True), 1.6625), (WeightForm(1, None, True), 1.6 + 16 / 2560 ** 2)])
def test_bits_of_forms(form, stored):
    shape = 2560, 2560
    assert form.stored_bits(shape) == pytest.approx(stored)
    scales = stored - 1.6 * form.depth
    if form.direct:
        assert form.information_bits(shape) == pytest.approx(math.log2(3) * form.depth + scales)
    matrix = packed_matrix(direct_matrix(50, 256, 1, 128))
    assert WeightForm(1, 128, True).information_bits((50, 256)) == matrix.information_bits
    assert WeightForm(1, 128, True).stored_bits((50, 256)) == pytest.approx(matrix.stored_bits)


@pytest.mark.parametrize(("arguments", "message"), [
    ((5,), "depth must be 1..4, not 5"), ((1, 24, True), "group must be a multiple of 16, not 24"),
    ((1, 0, True), "group must be a multiple of 16, not 0"),
    ((1, None), "one scale per matrix is a direct scale; coded scales need a group")])
def test_impossible_forms(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        WeightForm(*arguments)


def test_names_of_any_case():
    assert model_shape("Bonsai-8B") is SHAPES["bonsai-8b"]
    with pytest.raises(ValueError, match=r"^no model 'bonsai'; there are qwen2\.5-0\.5b, .*27b$"):
        model_shape("bonsai")


def test_the_words_of_a_token_are_close_to_the_stored_bits():
    """At L = 8, row blocks of 40 rows add little padding to large matrices."""
    for model in SHAPES.values():
        words = sum(count * product_cost(shape, model.form, 8).words
                    for (_, shape), count in model.modules().items())
        stored = sum(count * math.prod(shape) * model.form.stored_bits(shape)
                     for (_, shape), count in model.modules().items())
        assert np.isclose(64 * words, stored, rtol=0.015)

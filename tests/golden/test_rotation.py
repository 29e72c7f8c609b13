import numpy as np
import pytest

from tritstream.golden.rotation import Rotation


def hadamard(size):
    """The matrix, element by element."""
    return np.array([[(-1.0) ** (i & j).bit_count() for j in range(size)] for i in range(size)])


def drawn_signs(*widths):
    rng = np.random.default_rng(0)
    return {width: rng.choice(np.int8([-1, 1]), width) for width in widths}


def dense(rotation, columns):
    """The matrix of a rotation (K, K), so that ``x @ dense.T`` is the rotated x."""
    blocks = np.kron(np.eye(columns // rotation.block), hadamard(rotation.block))
    return blocks / np.sqrt(rotation.block) * rotation.signs.get(columns, 1)


@pytest.mark.parametrize("block", [2, 4, 32, 64])
@pytest.mark.parametrize("signs", [{}, drawn_signs(64, 192)])
def test_a_dense_product(block, signs):
    rotation = Rotation(block, signs, frozenset())
    for columns in (64, 192):
        matrix = dense(rotation, columns)
        x = np.random.default_rng(1).standard_normal((3, 5, columns)).astype(np.float32)
        turned = rotation.apply(x)
        assert turned.dtype == np.float32
        assert np.allclose(turned, x @ matrix.T, 0, 2e-6)
        assert np.allclose(rotation.undo(x), x @ matrix, 0, 2e-6)
        assert np.allclose(rotation.undo(turned), x, 0, 2e-6)


def test_a_rotation_of_integers_is_exact():
    """A block of 1024 scales by 2^-5."""
    rotation = Rotation(1024, drawn_signs(2048), frozenset())
    x = np.random.default_rng(2).integers(-100, 100, 2048).astype(np.float32)
    assert (rotation.apply(x) == x @ dense(rotation, 2048).T).all()
    assert (rotation.undo(rotation.apply(x)) == x).all()


def test_what_does_not_fit():
    rotation = Rotation(64, drawn_signs(128), frozenset({"a", "b"}))
    assert rotation.fault(128) is None
    assert rotation.fault(96) == "has 96 columns, no multiple of the rotated block of 64"
    assert rotation.fault(256) == "has 256 columns, for which the rotation has no signs"
    assert Rotation(64, {}, frozenset()).fault(256) is None
    assert rotation.of(["b", "c"]).modules == {"b"}
    assert rotation.of(["c"]) is None

"""Groups of 16 weights on which two implementations of float32 arithmetic could differ."""

import numpy as np

F = np.float32
_LARGEST = F(3.4028235e38)


def _gaussian(seed, count=300):
    return np.random.default_rng(seed).standard_normal((count, 16)).astype(F)


def _integers(seed, bound, count=300):
    return np.random.default_rng(seed).integers(-bound, bound + 1, (count, 16)).astype(F)


#: float32 (n, 16), finite. Counts are no multiples of a block.
GROUPS = {
    "gaussian": _gaussian(0),
    "heavy tails": _gaussian(1) ** 5,
    "ties": _integers(2, 4),
    "ties but for roundings": _integers(3, 4) * F(0.1),
    "halves of levels": _integers(4, 80) / F(80),
    "thirteenths": _integers(5, 26) / F(26),
    "zeros": np.zeros((3, 16), F),
    "negative zeros": np.full((3, 16), F(-0.0)),
    "sparse": _gaussian(6) * (_gaussian(7) > 1),
    "one weight": np.eye(16, dtype=F) * F(-0.7),
    "equal values": np.repeat(_gaussian(8)[:, :1], 16, axis=1),
    "equal magnitudes": np.where(_gaussian(9) > 0, F(0.3), F(-0.3)),
    "subnormal": _gaussian(10) * F(1e-41),
    "smallest subnormals": _integers(11, 3) * F(1e-45),
    "subnormal next to normal": np.where(_gaussian(12) > 0, _gaussian(13), F(1e-44)),
    "squares that underflow": _gaussian(14) * F(1e-30),
    "errors that underflow": _gaussian(15) * F(3e-22),
    "up to the largest": np.clip(_gaussian(16), -1, 1) * _LARGEST,
    "all the largest": np.full((2, 16), _LARGEST),
    "largest and smallest": np.where(_gaussian(17) > 0, _LARGEST, F(1e-45)),
    "products that overflow": np.clip(_gaussian(18), -1, 1) * F(3e37),
    "every size": _gaussian(19) * np.geomspace(1e-44, 1e37, 300, dtype=np.float64)[:, None],
    "every size in a group": _gaussian(20) * np.geomspace(1e-44, 1e37, 16, dtype=np.float64),
    "one group": _gaussian(21, 1),
    "127 groups": _gaussian(22, 127),
    "128 groups": _gaussian(23, 128),
    "129 groups": _gaussian(24, 129),
}
GROUPS = {name: np.ascontiguousarray(groups, F) for name, groups in GROUPS.items()}

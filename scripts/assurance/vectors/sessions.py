"""Sessions of valid requests: identity, products, batches."""

from collections.abc import Sequence

from tritstream.hw.protocol import ErrorCode, Opcode
from tritstream.scripts.assurance.vectors.matrices import (
    Case,
    blocks_case,
    longest_case,
    small_cases,
)
from tritstream.scripts.assurance.vectors.session import Product, Session

__all__ = ["basics", "columns_session", "longest_session", "products_session"]


def basics(lanes: int) -> Session:
    """Return a session of requests other than products."""
    session = Session(lanes, "requests that need nothing loaded")
    session.identify()
    session.status()
    session.ask("bytes behind arguments and payload count in the CRC and for nothing else",
                Opcode.SCALES, payload=bytes(108), padding=0xA5)
    session.ask("unused arguments are ignored", Opcode.SCALES, 0x12345678, 0x9ABCDEF0, bytes(108))
    session.ask("an empty part is no part", Opcode.RESET, padding=0x5A)
    session.status()
    return session


def products_session(lanes: int, depth: int) -> Session:
    """Return a session with every matrix of a depth and each of its vectors, in column 0."""
    session = Session(lanes, f"products at d = {depth}, one column")
    for case in small_cases(depth):
        product = Product(case, lanes)
        session.ask(f"{case.name}: scales", Opcode.SCALES, payload=product.scales)
        for vector in range(len(case.vectors)):
            _load(session, product, vector)
            _multiply(session, product, [vector])
    product = Product(blocks_case(depth, lanes), lanes)
    _load(session, product, 0)
    session.ask(f"{product.case.name}: scales", Opcode.SCALES, payload=product.scales)
    _multiply(session, product, [0])
    _multiply(session, product, [0], 0, 1)
    _multiply(session, product, [0], 1, 2)
    session.status()
    return session


def columns_session(lanes: int, depth: int) -> Session:
    """Return a session with products of two columns, and of one of the two."""
    session = Session(lanes, f"products at d = {depth}, two columns", columns=2)
    product = Product(blocks_case(depth, lanes), lanes)
    session.ask(f"{product.case.name}: scales", Opcode.SCALES, payload=product.scales)
    _load(session, product, 1, column=1)
    session.ask("column 0 is not loaded", Opcode.GEMV, product.arguments(2), product.blocks,
                product.words, ErrorCode.NOT_LOADED)
    _load(session, product, 0)
    _multiply(session, product, [0, 1])
    _multiply(session, product, [0])
    small = Product(small_cases(depth)[0], lanes)
    _load(session, small, 0, column=1)
    session.ask("column 1 holds another K", Opcode.GEMV, product.arguments(2), product.blocks,
                product.words, ErrorCode.SIZE)
    _multiply(session, product, [0])
    _load(session, small, 1)
    session.ask(f"{small.case.name}: scales", Opcode.SCALES, payload=small.scales)
    _multiply(session, small, [1, 0])
    session.status()
    return session


def longest_session(lanes: int) -> Session:
    """Return the session with the largest row sums."""
    case = longest_case()
    session = Session(lanes, case.about, max_k=case.shape[1])
    product = Product(case, lanes)
    session.ask(f"{case.name}: scales", Opcode.SCALES, payload=product.scales)
    _load(session, product, 0)
    _multiply(session, product, [0])
    session.status()
    return session


def _load(session: Session, product: Product, vector: int, column: int = 0) -> None:
    payload = product.activations(vector)
    session.ask(f"{_name(product.case, [vector])} to column {column}", Opcode.ACTIVATIONS, column,
                len(payload), payload)


def _multiply(session: Session, product: Product, vectors: Sequence[int], first: int = 0,
              count: int | None = None) -> None:
    """Add a GEMV of ``count`` row blocks, by default all; the RESULTs count blocks from 0."""
    count = product.blocks if count is None else count
    session.ask(f"{_name(product.case, vectors)}, row blocks {first}..{first + count - 1}",
                Opcode.GEMV, product.arguments(len(vectors)), count,
                product.payload(first, count))


def _name(case: Case, vectors: Sequence[int]) -> str:
    return f"{case.name}: {', '.join(case.vectors[vector].name for vector in vectors)}"

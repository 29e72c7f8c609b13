"""Sessions in which requests are refused: every ERROR code, and hunts for a header."""

from struct import pack

from tritstream.hw.protocol import HEADER_BYTES, MAGIC, Opcode, longest_group
from tritstream.scripts.assurance.frames import header
from tritstream.scripts.assurance.vectors.matrices import refused_case
from tritstream.scripts.assurance.vectors.session import Product, Session

__all__ = ["errors_session", "hunts_session"]


def errors_session(lanes: int) -> Session:
    """Return ERROR 2 to 7, alone and together; products in between show what is loaded."""
    session = Session(lanes, "refused requests: ERROR 2 to 7")
    product = Product(refused_case(lanes), lanes)
    _not_loaded(session, product)
    _opcodes(session)
    _wrong_loads(session, product)
    _wrong_gemvs(session, product)
    _wrong_lengths(session, product)
    _wrong_trailers(session, product)
    session.status()
    session.ask("a reset forgets", Opcode.RESET)
    _gemv(session, product, "nothing is loaded after a reset", 7)
    session.status()
    return session


def _not_loaded(session: Session, product: Product) -> None:
    _gemv(session, product, "nothing is loaded", 7)
    session.ask("scales", Opcode.SCALES, payload=product.scales)
    _gemv(session, product, "activations are not loaded", 7)
    _activations(session, product)
    _works(session, product)


def _opcodes(session: Session) -> None:
    for opcode in (0x06, 0x7F, Opcode.INFO, Opcode.ERROR):
        session.ask("unknown opcode, whatever else", opcode, 1, 2, b"abc", 2)
    for opcode in (Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET):
        session.ask("a payload where none is due", opcode, payload=b"\1", error=3)


def _wrong_loads(session: Session, product: Product) -> None:
    """Add loads that are refused for their header, which keeps the loads before them."""
    for about, arg0, arg1, size, code in (
        ("length is not K", 0, 48, 32, 3),
        ("length is not K, nor is K of whole groups", 0, 24, 16, 3),
        ("K is 0", 0, 0, 0, 5),
        ("K is no multiple of 16", 0, 24, 24, 5),
        ("K is above 32768", 0, 32784, 32784, 5),
        ("no such column", 255, 16, 16, 5),
        ("no such column, of 32 bits", 1 << 31, 16, 16, 5),
    ):
        session.ask(about, Opcode.ACTIVATIONS, arg0, arg1, bytes(size), code)
    for size in (0, 104, 112):
        session.ask(f"{size} bytes of scales", Opcode.SCALES, payload=bytes(size), error=3)
    _works(session, product)
    for place in (0, 26):
        wrong = bytearray(product.scales)
        wrong[4 * place:4 * place + 4] = pack("<I", 1 << 17)
        session.ask(f"mantissa {place} is 2^17", Opcode.SCALES, payload=bytes(wrong), error=5)
    _gemv(session, product, "scales that were refused for a mantissa are gone", 7)
    session.ask("scales", Opcode.SCALES, payload=product.scales)


def _wrong_gemvs(session: Session, product: Product) -> None:
    depth, groups, blocks, words = product.case.depth, product.groups, product.blocks, product.words
    for about, arg0, arg1, payload, code in (
        ("depth 0", groups << 8 | 1 << 24, blocks, words, 4),
        ("depth 5", 5 | groups << 8 | 1 << 24, blocks, words, 4),
        ("depth 5 and no groups: the lowest code", 5 | 1 << 24, blocks, words, 4),
        ("depth 5 and no words: the lowest code", 5 | groups << 8 | 1 << 24, blocks, b"", 3),
        ("no groups", depth | 1 << 24, blocks, words, 5),
        ("65535 groups", depth | 65535 << 8 | 1 << 24, blocks, words, 5),
        ("no columns", depth | groups << 8, blocks, words, 5),
        ("no row blocks", product.arguments(), 0, words, 5),
        ("groups are not those of the activations", depth | 2 << 8 | 1 << 24, blocks, words, 5),
        ("no words", product.arguments(), blocks, b"", 3),
        ("no row blocks, groups of two chunks", product.arguments(), 1 << 24, words, 5),
        ("a group of 128 chunks", product.arguments(), blocks | 127 << 24, words, 5),
        ("a group of a chunk too many, whatever the number of chunks", product.arguments(),
         blocks | longest_group(depth) << 24, words, 5),
        ("a group of a chunk too many, direct mantissas", product.arguments(),
         blocks | longest_group(depth) << 24 | 1 << 31, words, 5),
        ("words of codes for direct mantissas", product.arguments(), blocks | 1 << 31, words, 3),
    ):
        session.ask(about, Opcode.GEMV, arg0, arg1, payload, code)
    _works(session, product)


def _wrong_lengths(session: Session, product: Product) -> None:
    """Add payloads of the wrong number of words; RESULTs may be sent before the ERROR."""
    lanes, words = session.lanes, product.words
    for about, payload in (("a word too few", words[:-lanes]),
                           ("a word too many", words + bytes(lanes)), ("one word", words[:lanes])):
        _gemv(session, product, about, 3, payload)
    if lanes > 1:
        _gemv(session, product, "a broken word", 3, words[:-1])
    _works(session, product)


def _wrong_trailers(session: Session, product: Product) -> None:
    for opcode in (Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET, 0x77):
        session.ask("wrong trailer", opcode, error=6, spoil=1)
    session.ask("wrong trailer outranks a wrong length", Opcode.RESET, payload=b"\1", error=6,
                spoil=0x80)
    session.ask("wrong trailer of a GEMV", Opcode.GEMV, product.arguments(), product.blocks,
                product.words, 6, spoil=1)
    _works(session, product)
    payload = product.activations(0)
    session.ask("wrong trailer of activations", Opcode.ACTIVATIONS, 0, len(payload), payload, 6,
                spoil=1)
    _gemv(session, product, "activations of a wrong trailer are gone", 7)
    _activations(session, product)
    session.ask("wrong trailer of scales", Opcode.SCALES, payload=product.scales,
                error=6, spoil=1)
    _gemv(session, product, "scales of a wrong trailer are gone", 7)
    session.ask("scales", Opcode.SCALES, payload=product.scales)
    _works(session, product)


def hunts_session(lanes: int) -> Session:
    """Return a session of zeros and of bytes that are no frame: one ERROR 1 per hunt."""
    session = Session(lanes, "words that are no header: ERROR 1, hunts, zeros")
    session.raw("zeros are skipped", bytes(192))
    session.identify()
    session.raw("garbage", b"\xfe\x01" * 64, hunt=True)
    session.raw("still the same hunt: zeros, then garbage",
                bytes(128) + b"\x33\x54".ljust(64, b"\xee"))
    session.status()
    session.raw("another hunt", b"\1".ljust(64, b"\0"), hunt=True)
    session.raw("a wrong header CRC in the same hunt", _spoilt(session, MAGIC, 1))
    session.identify()
    session.raw("a frame with a wrong header CRC", _spoilt(session, MAGIC, 1), hunt=True)
    session.status()
    session.raw("a frame with a wrong magic", _spoilt(session, MAGIC ^ 0x100, 0), hunt=True)
    session.identify()
    _after_candidate(session)
    _swallowed(session)
    session.status()
    return session


def _after_candidate(session: Session) -> None:
    """Add a candidate that is dropped completely; the next word starts a header."""
    candidate = _header(MAGIC, Opcode.STATUS, 1)
    candidate += b"\xee" * (-HEADER_BYTES % session.lanes)
    session.raw("a candidate with a wrong CRC, dropped whole", candidate, hunt=True)
    session.identify()
    session.raw("zeros to the next multiple of 64", bytes(-len(session.requests) % 64))


def _swallowed(session: Session) -> None:
    """Add a magic in the word before a frame: a candidate that includes words of the frame.

    A word that can hold a complete header includes none. The payload of the lost frame has no word
    that is zero or a header.
    """
    lanes = session.lanes
    session.raw("a word that begins as a header does", pack("<H", MAGIC)[:lanes].ljust(
        lanes, b"\xee"), hunt=True)
    if lanes >= HEADER_BYTES:
        session.identify()
    elif lanes > 1:
        session.raw("the frame after it is lost",
                    session.frame(Opcode.SCALES, payload=b"\xee" * 108))
    else:
        session.identify()
    session.raw("zeros to the next multiple of 64", bytes(-len(session.requests) % 64))
    session.identify()


def _spoilt(session: Session, magic: int, fault: int) -> bytes:
    """Return SCALES with an invalid header; no payload word is zero or starts like a header."""
    data = session.frame(Opcode.SCALES, payload=b"\xee" * 128)
    return _header(magic, Opcode.SCALES, fault) + data[HEADER_BYTES:]


def _header(magic: int, opcode: int, fault: int) -> bytes:
    """Return a header of sequence 200 whose magic or CRC may be wrong."""
    return header(opcode, 200, length=128, magic=magic, fault=fault)


def _activations(session: Session, product: Product) -> None:
    payload = product.activations(0)
    session.ask("activations", Opcode.ACTIVATIONS, 0, len(payload), payload)


def _gemv(session: Session, product: Product, about: str, error: int = 0,
          payload: bytes | None = None) -> None:
    session.ask(about, Opcode.GEMV, product.arguments(), product.blocks,
                product.words if payload is None else payload, error)


def _works(session: Session, product: Product) -> None:
    """Add a product that is computed, because activations and scales are still loaded."""
    _gemv(session, product, "carried out: loads are still there")

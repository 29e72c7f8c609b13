"""Sessions in which requests are refused: every ERROR code, and hunts for a header."""

from struct import pack
from zlib import crc32

from tritstream.hw.protocol import HEADER_BYTES, MAGIC, ErrorCode, Opcode
from tritstream.scripts.assurance.vectors.matrices import refused_case
from tritstream.scripts.assurance.vectors.session import Due, Product, Session, error

__all__ = ["errors_session", "hunts_session"]

_LOST = error(ErrorCode.NO_HEADER, 0)


def errors_session(lanes: int) -> Session:
    """ERROR 2 to 7, alone and together, with products in between that show what is loaded."""
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
    _gemv(session, product, "nothing is loaded after a reset", error(7, Opcode.GEMV))
    session.status()
    return session


def _not_loaded(session, product):
    _gemv(session, product, "nothing is loaded", error(7, Opcode.GEMV))
    session.ask("scales", Opcode.SCALES, payload=product.scales)
    _gemv(session, product, "activations are not loaded", error(7, Opcode.GEMV))
    _activations(session, product)
    _works(session, product)


def _opcodes(session):
    for opcode in (0x06, 0x7F, Opcode.INFO, Opcode.ERROR):
        session.ask("unknown opcode, whatever else", opcode, 1, 2, b"abc",
                    error(ErrorCode.OPCODE, opcode))
    for opcode in (Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET):
        session.ask("a payload where none is due", opcode, payload=b"\1", due=error(3, opcode))


def _wrong_loads(session, product):
    """Loads that are refused for their header: what they would have replaced stays."""
    for about, arg0, arg1, size, code in (
        ("length is not K", 0, 48, 32, 3),
        ("length is not K, nor is K of whole groups", 0, 24, 16, 3),
        ("K is 0", 0, 0, 0, 5),
        ("K is no multiple of 16", 0, 24, 24, 5),
        ("K is above 32768", 0, 32784, 32784, 5),
        ("no such column", 255, 16, 16, 5),
        ("no such column, of 32 bits", 1 << 31, 16, 16, 5),
    ):
        session.ask(about, Opcode.ACTIVATIONS, arg0, arg1, bytes(size),
                    error(code, Opcode.ACTIVATIONS))
    for size in (0, 104, 112):
        session.ask(f"{size} bytes of scales", Opcode.SCALES, payload=bytes(size),
                    due=error(3, Opcode.SCALES))
    _works(session, product)
    for place in (0, 26):
        wrong = bytearray(product.scales)
        wrong[4 * place:4 * place + 4] = pack("<I", 1 << 17)
        session.ask(f"mantissa {place} is 2^17", Opcode.SCALES, payload=bytes(wrong),
                    due=error(5, Opcode.SCALES))
    _gemv(session, product, "scales that were refused for a mantissa are gone",
          error(7, Opcode.GEMV))
    session.ask("scales", Opcode.SCALES, payload=product.scales)


def _wrong_gemvs(session, product):
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
    ):
        session.ask(about, Opcode.GEMV, arg0, arg1, payload, error(code, Opcode.GEMV))
    _works(session, product)


def _wrong_lengths(session, product):
    """Payloads that are whole words, but not those of the arguments: RESULTs may have left."""
    lanes, blocks, words = session.lanes, product.blocks, product.words
    for about, payload, whole in (
        ("a word too few", words[:-lanes], blocks - 1),
        ("a word too many", words + bytes(lanes), blocks),
        ("one word", words[:lanes], 0),
    ):
        due = [*product.results([0], 0, whole, optional=True), *error(3, Opcode.GEMV)]
        _gemv(session, product, about, due, payload)
    if lanes > 1:
        _gemv(session, product, "a broken word", error(3, Opcode.GEMV), words[:-1])
    _works(session, product)


def _wrong_trailers(session, product):
    for opcode in (Opcode.IDENTIFY, Opcode.STATUS, Opcode.RESET, 0x77):
        session.ask("wrong trailer", opcode, due=error(6, opcode), spoil=1)
    session.ask("wrong trailer outranks a wrong length", Opcode.RESET, payload=b"\1",
                due=error(6, Opcode.RESET), spoil=0x80)
    due = [*product.results([0], optional=True), *error(6, Opcode.GEMV)]
    session.ask("wrong trailer of a GEMV", Opcode.GEMV, product.arguments(), product.blocks,
                product.words, due, spoil=1)
    _works(session, product)
    payload = product.activations(0)
    session.ask("wrong trailer of activations", Opcode.ACTIVATIONS, 0, len(payload), payload,
                error(6, Opcode.ACTIVATIONS), spoil=1)
    _gemv(session, product, "activations of a wrong trailer are gone", error(7, Opcode.GEMV))
    _activations(session, product)
    session.ask("wrong trailer of scales", Opcode.SCALES, payload=product.scales,
                due=error(6, Opcode.SCALES), spoil=1)
    _gemv(session, product, "scales of a wrong trailer are gone", error(7, Opcode.GEMV))
    session.ask("scales", Opcode.SCALES, payload=product.scales)
    _works(session, product)


def hunts_session(lanes: int) -> Session:
    """Zeros, and bytes that are no frame: ERROR 1 once for each hunt."""
    session = Session(lanes, "words that are no header: ERROR 1, hunts, zeros")
    session.raw("zeros are skipped", bytes(192))
    session.identify()
    session.raw("garbage", b"\xfe\x01" * 64, _LOST)
    session.raw("still the same hunt: zeros, then garbage",
                bytes(128) + b"\x33\x54".ljust(64, b"\xee"))
    session.status()
    session.raw("another hunt", b"\1".ljust(64, b"\0"), _LOST)
    session.raw("a wrong header CRC in the same hunt", _spoilt(session, MAGIC, 1))
    session.identify()
    session.raw("a frame with a wrong header CRC", _spoilt(session, MAGIC, 1), _LOST)
    session.status()
    session.raw("a frame with a wrong magic", _spoilt(session, MAGIC ^ 0x100, 0), _LOST)
    session.identify()
    _after_candidate(session)
    _swallowed(session)
    session.status()
    return session


def _after_candidate(session):
    """A candidate is dropped whole, and the very next word may begin a header."""
    candidate = _header(MAGIC, Opcode.STATUS, 1)[:HEADER_BYTES]
    candidate = candidate.ljust(-(-HEADER_BYTES // session.lanes) * session.lanes, b"\xee")
    session.raw("a candidate with a wrong CRC, dropped whole", candidate, _LOST)
    session.identify()
    session.raw("zeros to the next multiple of 64", bytes(-len(session.requests) % 64))


def _swallowed(session):
    """Magic in the word before a frame: a candidate that takes words of the frame with it.

    Where a word holds a whole header it takes none. A frame that is lost has a payload whose words
    are neither zero nor a header.
    """
    lanes = session.lanes
    session.raw("a word that begins as a header does", pack("<H", MAGIC)[:lanes].ljust(
        lanes, b"\xee"), _LOST)
    if lanes >= HEADER_BYTES:
        session.identify()
    elif lanes > 1:
        session.raw("the frame after it is lost",
                    session.frame(Opcode.SCALES, payload=b"\xee" * 108))
    else:
        session.identify()
    session.raw("zeros to the next multiple of 64", bytes(-len(session.requests) % 64))
    session.identify()


def _spoilt(session, magic, spoil):
    """SCALES with a wrong header; no word of its payload is zero or begins as a header does."""
    data = bytearray(session.frame(Opcode.SCALES, payload=b"\xee" * 128))
    data[:HEADER_BYTES] = _header(magic, Opcode.SCALES, spoil)
    return bytes(data)


def _header(magic, opcode, spoil):
    """A header under sequence 200 whose magic or CRC may be wrong."""
    fields = pack("<HBBIII", magic, opcode, 200, 0, 0, 128)
    return fields + pack("<I", crc32(fields) ^ spoil)


def _activations(session, product):
    payload = product.activations(0)
    session.ask("activations", Opcode.ACTIVATIONS, 0, len(payload), payload)


def _gemv(session, product, about, due: list[Due] | tuple[Due, ...], payload=None):
    session.ask(about, Opcode.GEMV, product.arguments(), product.blocks,
                product.words if payload is None else payload, due)


def _works(session, product):
    """A product that is carried out: what was loaded is still there."""
    _gemv(session, product, "carried out: loads are still there",
          [*product.results([0]), product.done()])

"""Many requests at a time for `tritstream serve`, some of them cancelled; and a table of the cost.

    PYTHONPATH=tests python -m support.load PACKED --requests 50 --cancelled 10 --columns 1 2 4
"""

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from openai import AsyncOpenAI

from tritstream.host.model.backends import Cost
from tritstream.host.model.generation import generate_text
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.prompts import text_tokens
from tritstream.host.model.sampling import Sampling

from support.serving import serving_model

__all__ = ["Load", "Request", "expected", "health", "requests_of", "run_load"]

#: Beginnings of the texts; the numbers of their tokens differ.
PROMPTS = (
    "She had always wished to be a good", "No", "It is a truth universally acknowledged, that",
    "Mr. Darcy", "The evening was spent in conversation with her sister, and when the",
    "“I do not", "Elizabeth was",
)
#: Tokens of a text whose client leaves, so that it does not end before.
LONG = 400


@dataclass(frozen=True)
class Request:
    """One request: its text, and after how many parts of the answer the client leaves, if it does.
    """

    prompt:      str
    tokens:      int
    temperature: float
    seed:        int
    is_stream:   bool
    leaves:      int | None = None


@dataclass
class Load:
    """What came of requests: answers that were right, wrong, cut off by the client, and lost."""

    right:     int = 0
    wrong:     list = field(default_factory=list)
    cancelled: int = 0
    lost:      list = field(default_factory=list)


def requests_of(count, tokens, cancelled):
    """Requests of all kinds: greedy and sampled, whole and streamed, the last ones cancelled.

    Every kind of prompt meets every kind of choice, because 7 is odd.
    """
    return [Request(PROMPTS[at % len(PROMPTS)], tokens, 0.9 * (at % 2), at % 3, at % 4 < 2)
            for at in range(count - cancelled)] + [
        Request(PROMPTS[at % len(PROMPTS)], LONG, 0.0, 0, at % 2 == 0, leaves=1 + at % 3)
        for at in range(cancelled)]


def expected(packed, requests):
    """The text of each request, by golden, one at a time."""
    model, tokenizer, found = load_model(packed, backend="golden"), load_tokenizer(packed), {}
    for one in requests:
        if one.leaves is None:
            key = one.prompt, one.tokens, one.temperature, one.temperature and one.seed
            found[key] = found.get(key) or generate_text(
                model, tokenizer, text_tokens(tokenizer, one.prompt), one.tokens,
                emit=lambda text: None, take_cost=Cost,
                sampling=Sampling(one.temperature, seed=one.seed)).text
    return found


def run_load(url, model, requests, texts):
    """Send all requests at once; compare what comes with the texts of :func:`expected`."""
    return asyncio.run(_run(url, model, requests, texts))


async def _run(url, model, requests, texts):
    load, all_there = Load(), asyncio.Event()
    count = _received(url) + len(requests)
    async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0, timeout=600) as client:
        sending = asyncio.gather(*[_send(client, model, one, texts, load, all_there)
                                   for one in requests])
        while not sending.done() and await asyncio.to_thread(_received, url) < count:
            await asyncio.sleep(0.05)
        all_there.set()
        await sending
    return load


async def _send(client, model, one, texts, load, all_there):
    try:
        text = await (_leave(client, model, one, all_there) if one.leaves
                      else _read(client, model, one))
    except Exception as error:
        load.lost.append((one, repr(error)))
        return
    if one.leaves:
        load.cancelled += 1
    elif text == texts[one.prompt, one.tokens, one.temperature, one.temperature and one.seed]:
        load.right += 1
    else:
        load.wrong.append((one, text))


def _asked(model, one):
    return {"model": model, "prompt": one.prompt, "max_tokens": one.tokens,
            "temperature": one.temperature, "seed": one.seed}


async def _read(client, model, one):
    if not one.is_stream:
        return (await client.completions.create(**_asked(model, one))).choices[0].text
    stream = await client.completions.create(**_asked(model, one), stream=True)
    return "".join([part.choices[0].text async for part in stream])


async def _leave(client, model, one, all_there):
    """Close the connection after some parts, or in the middle of an answer that is not streamed:
    when the server has all requests.
    """
    if not one.is_stream:
        answer = asyncio.create_task(client.completions.create(**_asked(model, one)))
        await all_there.wait()
        answer.cancel()
        await asyncio.wait([answer])
        assert answer.cancelled()
        return
    async with await client.completions.create(**_asked(model, one), stream=True) as stream:
        for _ in range(one.leaves):
            await anext(aiter(stream))


def health(url):
    """The figures of a server."""
    with urlopen(url.removesuffix("v1") + "health") as answer:
        return json.load(answer)


def _received(url):
    """Number of requests that a server has got so far."""
    found = health(url)
    return sum(found[name] for name in ("running", "waiting", "finished", "failed", "cancelled"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", type=Path)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--cancelled", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    requests = requests_of(asked.requests, asked.tokens, asked.cancelled)
    texts = expected(asked.packed, requests)
    print("| columns | requests | right | cancelled | wrong | lost | prompt tokens | new tokens | "
          "cycles per prompt token | cycles per new token |\n|---|---|---|---|---|---|---|---|---|"
          "---|")
    for columns in asked.columns:
        device = f"sim:lanes=16,columns={columns}"
        with serving_model(asked.packed, "--device", device) as (_, url):
            load = run_load(url, asked.packed.name, requests, texts)
            found = health(url)
        print("|", " | ".join(map(str, [
            columns, len(requests), load.right, load.cancelled, len(load.wrong), len(load.lost),
            found["prefill"]["tokens"], found["finished"] + found["decode"]["tokens"],
            *(f"{found[phase]['device_cycles_per_token']:.0f}" for phase in ("prefill", "decode"))
        ])), "|", flush=True)


if __name__ == "__main__":
    main()

# aiocoap as a client: aiocoap_client.py URI < STEPS. Steps (and ack_timeout_ms) and what is printed are as of
# client.py, without counters.

import asyncio
import json
import sys
import time

import aiocoap
import aiocoap.error
from aiocoap.numbers.constants import TransportTuning


class Tuning(TransportTuning):
    MAX_RETRANSMIT = 8

    def __init__(self, ack_timeout_ms: int) -> None:
        self.ACK_TIMEOUT = ack_timeout_ms / 1000


async def attempt(context: aiocoap.Context, uri: str, step: dict) -> dict:
    confirmable = step.get("confirmable", True)
    message = aiocoap.Message(
        code=getattr(aiocoap, step["method"]),
        uri=f"{uri}/{step.get('path', '')}",
        payload=bytes.fromhex(step["hex"]) if "hex" in step else (step.get("payload") or "").encode(),
        transport_tuning=Tuning(step.get("ack_timeout_ms", 2000)) if confirmable else aiocoap.Unreliable,
    )
    if "ct" in step:
        message.opt.content_format = step["ct"]
    if "accept" in step:
        message.opt.accept = step["accept"]
    for number, value in step.get("options", ()):
        message.opt.add_option(aiocoap.OptionNumber(number).create_option(value=value.encode()))
    try:
        response = await asyncio.wait_for(
            context.request(message, handle_blockwise=False).response, step.get("timeout_ms", 20000) / 1000
        )
    except TimeoutError:
        return {"error": "Timeout", "ms": 0}
    except aiocoap.error.Error as error:
        return {"error": type(error).__name__, "text": str(error), "ms": 0}
    options: dict[str, list[str]] = {}
    for option in response.opt.option_list():
        options.setdefault(str(int(option.number)), []).append(option.encode().hex())
    result = {"code": response.code.dotted, "payload": response.payload.hex(), "options": options}
    if not response.code.is_successful():
        result |= {"error": "CoapError", "text": response.payload.decode()}
    return result | {"ms": time.monotonic_ns() // 1_000_000}


async def main(uri: str, steps: list) -> None:
    context = await aiocoap.Context.create_client_context()
    for step in steps:
        if isinstance(step, list):
            result = await asyncio.gather(*[attempt(context, uri, request) for request in step])
        elif "wait_ms" in step:
            result = await asyncio.sleep(step["wait_ms"] / 1000)
        else:
            result = await attempt(context, uri, step)
        print(json.dumps(result), flush=True)
    await context.shutdown()


asyncio.run(main(sys.argv[1], json.loads(sys.stdin.readline())))

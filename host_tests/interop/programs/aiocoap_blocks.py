# aiocoap as a client that does blocks and observes: aiocoap_blocks.py URI < STEPS. STEPS is a line with a JSON list of
# requests: method, path, payload, and what options aiocoap is to set, by their names there. With "times", the path is
# observed until so many states have come. Prints a line of JSON for each: code, payload and some options of the last
# response; of an observation, a list of payloads.

import asyncio
import json
import sys

import aiocoap


async def ask(context: aiocoap.Context, uri: str, step: dict):
    message = aiocoap.Message(
        code=getattr(aiocoap, step.pop("method", "GET")),
        uri=f"{uri}/{step.pop('path', '')}",
        payload=step.pop("payload", "").encode(),
    )
    times = step.pop("times", 0)
    for name, value in step.items():
        setattr(message.opt, name, [bytes.fromhex(each) for each in value] if name == "etags" else value)
    if times:
        message.opt.observe = 0
    request = context.request(message)
    response = await asyncio.wait_for(request.response, 20)
    if times:
        assert request.observation is not None
        states = [response.payload.decode()]
        async for each in request.observation:
            states.append(each.payload.decode())
            if len(states) == times:
                request.observation.cancel()
                return states
    return {
        "code": response.code.dotted,
        "payload": response.payload.decode(),
        "etag": response.opt.etag and response.opt.etag.hex(),
        "location": [*response.opt.location_path, *response.opt.location_query],
        "ct": response.opt.content_format,
    }


async def main(uri: str, steps: list) -> None:
    context = await aiocoap.Context.create_client_context()
    for step in steps:
        print(json.dumps(await ask(context, uri, step)), flush=True)
    await context.shutdown()


asyncio.run(main(sys.argv[1], json.loads(sys.stdin.readline())))

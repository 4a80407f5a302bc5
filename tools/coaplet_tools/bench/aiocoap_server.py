"""aiocoap with one resource, as an application writes it: PORT. It serves until it is ended."""

import asyncio
import sys

from aiocoap import Context, Message, resource


class Temperature(resource.Resource):
    async def render_get(self, request: Message) -> Message:
        return Message(payload=b"21.5", content_format=0)


async def main(port: int) -> None:
    site = resource.Site()
    site.add_resource(["t"], Temperature())
    await Context.create_server_context(site, bind=("127.0.0.1", port))
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

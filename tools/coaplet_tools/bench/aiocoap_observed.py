"""aiocoap with a resource "o" that can be observed: PORT OBSERVERS. It serves until it is ended.

aiocoap makes a notification, a CON, of each change, and queues it while its observer has not acknowledged the one
before. Here the state changes when all have been acknowledged: sooner, and the queues would grow for ever; later, and
it would idle. That is no event of aiocoap's interface, so acknowledged() is put around a method of its own.
"""

import asyncio
import sys

from aiocoap import Context, Message, resource
from aiocoap.messagemanager import MessageManager


class Changing(resource.ObservableResource):
    state = 0

    async def render_get(self, request: Message) -> Message:
        self.state += 1
        return Message(payload=str(self.state).encode(), content_format=0)

    def update_observation_count(self, newcount: int) -> None:
        if newcount == int(sys.argv[2]):
            asyncio.get_running_loop().call_later(0.1, self.updated_state)


async def main(port: int) -> None:
    changing = Changing()
    go_on = MessageManager._continue_backlog

    def acknowledged(self: MessageManager, remote: object) -> None:
        go_on(self, remote)
        if not self._backlogs:
            changing.updated_state()

    MessageManager._continue_backlog = acknowledged
    site = resource.Site()
    site.add_resource(["o"], changing)
    await Context.create_server_context(site, bind=("127.0.0.1", port))
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

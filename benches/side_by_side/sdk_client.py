"""An agent of band-sdk that does nothing but approve its friends, by the SDK's own strategy for that."""

import asyncio
import os
import signal

from band.agent import Agent
from band.core.simple_adapter import SimpleAdapter
from band.platform.event import ContactRequestReceivedEvent
from band.runtime.contacts import ContactEventConfig, ContactEventStrategy


class Silent(SimpleAdapter):
    async def on_message(self, *arguments, **named):
        pass


async def friends(event, tools):
    if isinstance(event, ContactRequestReceivedEvent) and (event.payload.from_handle or "").startswith("friends/"):
        await tools.respond_contact_request("approve", request_id=event.payload.id)


async def main():
    agent = Agent.create(
        adapter=Silent(),
        agent_id=os.environ["BAND_AGENT_ID"],
        api_key=os.environ["BAND_API_KEY"],
        ws_url=os.environ["BAND_WS_URL"],
        rest_url=os.environ["BAND_REST_URL"],
        contact_config=ContactEventConfig(strategy=ContactEventStrategy.CALLBACK, on_event=friends),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await agent.start()
    await stop.wait()
    await agent.stop()


asyncio.run(main())

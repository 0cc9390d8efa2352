"""The daemon and the agent's own client, the official one, for the same agent on one sandbox."""

import asyncio
import contextlib
import unittest

from band import Agent
from band.core.exceptions import AgentAlreadyRunningError
from band.core.simple_adapter import SimpleAdapter
from band.core.types import ConflictPolicy
from band.platform.event import ContactRequestReceivedEvent
from band.platform.link import BandLink
from band.runtime.contacts import ContactEventConfig, ContactEventStrategy
from door import Door
from sandbox import ALICE, ALICE_KEY, PATIENCE, Sandbox, until


class Silent(SimpleAdapter):
    """An agent without a model: it keeps what it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def on_message(self, msg, *_, **__):
        self.told.append(msg)


class BesideSdk(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)

    def door(self, **settings):
        return Door(self.sandbox.url, self.sandbox.ws_url, key=ALICE_KEY, **settings)

    async def link(self, policy):
        link = BandLink(
            agent_id=ALICE,
            api_key=ALICE_KEY,
            ws_url=self.sandbox.ws_url,
            rest_url=self.sandbox.url,
            conflict_policy=policy,
        )
        await link.connect()
        self.addAsyncCleanup(link.disconnect)
        await link.subscribe_agent_contacts(ALICE)
        return link

    async def agent(self, **contacts):
        agent = Agent.create(
            Silent(),
            ALICE,
            ALICE_KEY,
            ws_url=self.sandbox.ws_url,
            rest_url=self.sandbox.url,
            contact_config=ContactEventConfig(**contacts),
        )
        await agent.start()
        self.addAsyncCleanup(agent.stop)
        return agent

    def connects(self, status):
        return sum(1 for connect in self.sandbox.state()["connects"] if connect["status"] == status)

    async def test_take_ends_an_official_client_for_good(self):
        link = await self.link(ConflictPolicy.SUPERSEDE)
        async with self.door(connection="take", list_live="300ms") as door:
            await door.live()
            await until(lambda: not link.is_connected, "the client has lost its connection")
            self.assertFalse(link.last_disconnect_reason.retryable)
            connects = self.connects(101)
            # Some listings later it has not come back.
            for number in range(3):
                row = self.sandbox.ask(from_handle=f"friends/{number}")
                await door.says("answered", request=row, outcome="approved")
                await door.says("listed")
            self.assertEqual(self.connects(101), connects)
            self.assertFalse(link.is_connected)

    async def test_a_client_that_rejects_cannot_start_beside_yield_and_can_beside_poll(self):
        async with self.door() as door:
            await door.live()
            with self.assertRaises(AgentAlreadyRunningError):
                await self.link(ConflictPolicy.REJECT)
        await until(lambda: self.sandbox.state()["live"] == [], "doorman has left")
        async with self.door(connection="poll") as door:
            await door.says("state_changed", state="polling")
            link = await self.link(ConflictPolicy.REJECT)
            row = self.sandbox.ask(from_handle="friends/ann")
            await door.says("answered", request=row, outcome="approved")
            self.assertTrue(link.is_connected)

    async def test_yield_gives_way_to_a_client_that_takes_and_comes_back_after_it(self):
        async with self.door() as door:
            await door.live()
            link = await self.link(ConflictPolicy.SUPERSEDE)
            await door.says("state_changed", state="yielded")
            row = self.sandbox.ask(from_handle="friends/ann")
            await door.says("answered", request=row, outcome="approved")
            await until(lambda: self.connects(409) >= 3, "several tries")
            self.assertTrue(link.is_connected)
            await link.disconnect()
            await door.live()

    async def test_close_1008_ends_the_client_for_good_and_not_doorman(self):
        link = await self.link(ConflictPolicy.SUPERSEDE)
        over = asyncio.create_task(link.run_forever(install_signal_handlers=False))
        self.sandbox.kick(code=1001)
        await until(lambda: self.connects(101) == 2, "the client comes back after another close")
        self.assertFalse(over.done())
        self.sandbox.kick(code=1008)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(over, PATIENCE)
        self.assertTrue(over.done() and not over.cancelled(), "it ended by itself")
        async with self.door() as door:
            await door.live()
            self.sandbox.kick(code=1008)
            await door.says("policy_violation")
            await door.live()
        self.assertEqual(self.connects(101), 4, "each connected twice")

    async def test_plain_closes_of_a_platform_that_knows_conflicts_do_not_make_it_yield(self):
        async with self.door() as door:
            await door.live()
            for _ in range(5):
                self.sandbox.kick(code=1001)
                await door.live()
            self.assertEqual(door.count("state_changed", state="yielded"), 0)

    async def test_a_callback_answers_first_and_doorman_says_so(self):
        async def approve_everybody(event, tools):
            if isinstance(event, ContactRequestReceivedEvent):
                await tools.respond_contact_request("approve", request_id=event.payload.id)

        async with self.door() as door:
            await door.live()
            agent = await self.agent(strategy=ContactEventStrategy.CALLBACK, on_event=approve_everybody)
            await door.says("state_changed", state="yielded")
            row = self.sandbox.ask(from_handle="a-stranger")
            await until(lambda: self.sandbox.status_of(row) == "approved", "the callback's answer")
            await agent.stop()
            await door.live()
            await door.says("contact_unexplained", handle="a-stranger")
            self.assertEqual(door.count("answered"), 0)

    async def test_with_disabled_contacts_the_agent_leaves_requests_to_doorman(self):
        async with self.door(connection="poll") as door:
            await door.says("state_changed", state="polling")
            await self.agent(strategy=ContactEventStrategy.DISABLED)
            stranger, foe = self.sandbox.ask(from_handle="a-stranger"), self.sandbox.ask(from_handle="foes/bob")
            await door.says("decided", request=stranger, verdict="defer")
            await door.says("answered", request=foe, outcome="rejected")
            self.assertEqual(self.sandbox.status_of(stranger), "pending")


if __name__ == "__main__":
    unittest.main()

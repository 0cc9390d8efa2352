"""band-sdk's BandLink: two clients of one agent, with each conflict policy."""

import asyncio
import unittest

from band.core.exceptions import AgentAlreadyRunningError
from band.core.types import ConflictPolicy
from band.platform.event import ContactRequestReceivedEvent, WebSocketDisconnectedEvent
from band.platform.link import BandLink
from sandbox import ALICE, ALICE_KEY, PATIENCE, Sandbox, until


class Link(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)

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

    async def event(self, link, kind):
        async def wait():
            async for event in link:
                if isinstance(event, kind):
                    return event

        return await asyncio.wait_for(wait(), PATIENCE)

    async def test_reject_is_refused_while_another_is_connected(self):
        first = await self.link(ConflictPolicy.REJECT)
        with self.assertRaises(AgentAlreadyRunningError):
            await self.link(ConflictPolicy.REJECT)
        self.assertTrue(first.is_connected)
        request = self.sandbox.ask(from_handle="stranger")
        self.assertEqual((await self.event(first, ContactRequestReceivedEvent)).payload.id, request)
        self.assertIn(409, [connect["status"] for connect in self.sandbox.state()["connects"]])

    async def test_reject_connects_once_the_other_is_gone(self):
        first = await self.link(ConflictPolicy.REJECT)
        await first.disconnect()
        await until(lambda: self.sandbox.state()["live"] == [], "the end of the first connection")
        second = await self.link(ConflictPolicy.REJECT)
        self.assertTrue(second.is_connected)

    async def test_supersede_takes_over_and_the_older_is_told_for_good(self):
        first = await self.link(ConflictPolicy.SUPERSEDE)
        second = await self.link(ConflictPolicy.SUPERSEDE)
        gone = (await self.event(first, WebSocketDisconnectedEvent)).payload
        self.assertFalse(gone.retryable)
        self.assertTrue(gone.reason)
        self.assertTrue(gone.correlation_id)
        self.assertFalse(first.is_connected)
        request = self.sandbox.ask(from_handle="stranger")
        self.assertEqual((await self.event(second, ContactRequestReceivedEvent)).payload.id, request)
        self.assertEqual([end["why"] for end in self.sandbox.state()["ends"]], ["superseded"])


if __name__ == "__main__":
    unittest.main()

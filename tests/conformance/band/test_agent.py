"""A whole agent of band-sdk with the contact strategy HUB_ROOM: it starts, and its model is asked about a stranger."""

import asyncio
import unittest

from band import Agent
from band.core.simple_adapter import SimpleAdapter
from band.runtime.contacts import ContactEventConfig, ContactEventStrategy
from sandbox import ALICE, ALICE_HANDLE, ALICE_KEY, BOB, BOB_HANDLE, PATIENCE, Sandbox

from band_rest import AsyncRestClient
from band_rest.core.api_error import ApiError


class Told(SimpleAdapter):
    """In the place of a model."""

    def __init__(self):
        super().__init__()
        self.messages = asyncio.Queue()

    async def on_message(self, msg, *_, room_id, **__):
        await self.messages.put((room_id, msg.content))


class HubRoom(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)

    async def test_its_model_is_asked_about_a_stranger(self):
        told = Told()
        agent = Agent.create(
            told,
            ALICE,
            ALICE_KEY,
            ws_url=self.sandbox.ws_url,
            rest_url=self.sandbox.url,
            contact_config=ContactEventConfig(strategy=ContactEventStrategy.HUB_ROOM),
        )
        await agent.start()
        self.addAsyncCleanup(agent.stop)
        request = self.sandbox.ask(from_handle="a-stranger", message="hello")
        room, content = await asyncio.wait_for(told.messages.get(), PATIENCE)
        self.assertIn(request, content)
        self.assertIn("a-stranger", content)
        joined = {join["topic"]: join["reply"] for join in self.sandbox.state()["joins"]}
        self.assertEqual((joined[f"chat_room:{room}"], joined[f"room_participants:{room}"]), ("ok", "ok"))

    async def test_the_calls_about_chats_and_peers_are_parsed(self):
        client = AsyncRestClient(api_key=ALICE_KEY, base_url=self.sandbox.url)
        self.assertEqual((await client.agent_api_chats.list_agent_chats()).data, [])
        room = (await client.agent_api_chats.create_agent_chat(chat={})).data
        self.assertEqual([chat.id for chat in (await client.agent_api_chats.list_agent_chats()).data], [room.id])
        self.assertEqual((await client.agent_api_chats.get_agent_chat(room.id)).data, room)
        [itself] = (await client.agent_api_participants.list_agent_chat_participants(room.id)).data
        self.assertEqual((itself.id, itself.handle, itself.role), (ALICE, ALICE_HANDLE, "owner"))
        self.assertEqual((await client.agent_api_context.get_agent_chat_context(room.id)).data, [])
        self.assertIsNone(await client.agent_api_messages.get_agent_next_message(room.id))
        peers = {peer.id: peer for peer in (await client.agent_api_peers.list_agent_peers()).data}
        self.assertNotIn(ALICE, peers)
        self.assertEqual((peers[BOB].handle, peers[BOB].is_contact), (BOB_HANDLE, False))
        with self.assertRaises(ApiError) as refused:
            await client.agent_api_chats.get_agent_chat("no-such-chat")
        self.assertEqual(refused.exception.status_code, 404)


if __name__ == "__main__":
    unittest.main()

"""The generated REST client of band-sdk against the sandbox: every call doorman makes, and every error it can name."""

import unittest

from band_rest import (
    AsyncRestClient,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)
from band_rest.core.api_error import ApiError
from sandbox import ALICE, ALICE_HANDLE, ALICE_KEY, BOB, BOB_HANDLE, BOB_KEY, JOHN_KEY, Sandbox

# The client sends 409 and 429 again by itself unless told not to.
ONCE = {"max_retries": 0}


class Rest(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)
        self.alice = self.client(ALICE_KEY).agent_api_contacts
        self.bob = self.client(BOB_KEY).agent_api_contacts

    def client(self, key):
        return AsyncRestClient(api_key=key, base_url=self.sandbox.url)

    async def pending(self, contacts):
        return (await contacts.list_agent_contact_requests()).data.received

    async def respond(self, contacts, action, request):
        reply = await contacts.respond_to_agent_contact_request(
            action=action, request_id=request, request_options=ONCE
        )
        return reply.data

    async def test_me_is_parsed_for_both_agents(self):
        for key, agent, handle in [(ALICE_KEY, ALICE, ALICE_HANDLE), (BOB_KEY, BOB, BOB_HANDLE)]:
            me = (await self.client(key).agent_api_identity.get_agent_me()).data
            self.assertEqual((me.id, me.handle), (agent, handle))
            self.assertTrue(me.owner_uuid)
            self.assertIsInstance(me.feature_flags, dict)
            self.assertIsNotNone(me.inserted_at.tzinfo)
            self.assertIsNotNone(me.updated_at.tzinfo)

    async def test_add_list_approve_contacts_and_remove_with_both_agents(self):
        added = (await self.bob.add_agent_contact(handle=f"@{ALICE_HANDLE}", message="hello")).data
        self.assertEqual(added.status, "pending")
        [received] = await self.pending(self.alice)
        self.assertEqual((received.id, received.from_handle, received.from_name), (added.id, BOB_HANDLE, "Bob"))
        self.assertEqual((received.message, received.status), ("hello", "pending"))
        self.assertTrue(received.from_avatar_url.startswith("https://"), "an agent asks")
        sent = await self.bob.list_agent_contact_requests()
        self.assertEqual([(row.id, row.to_handle, row.status) for row in sent.data.sent], [(added.id, ALICE_HANDLE, "pending")])
        self.assertEqual((sent.metadata.sent.total, sent.metadata.sent.total_pages), (1, 1))
        self.assertEqual(sent.metadata.received.total, 0)

        done = await self.respond(self.alice, "approve", added.id)
        self.assertEqual((done.id, done.status), (added.id, "approved"))
        self.assertEqual(await self.pending(self.alice), [])
        approved = await self.bob.list_agent_contact_requests(sent_status="approved")
        self.assertEqual([row.status for row in approved.data.sent], ["approved"])
        everything = await self.bob.list_agent_contact_requests(sent_status="all")
        self.assertEqual(len(everything.data.sent), 1)
        self.assertEqual((await self.bob.list_agent_contact_requests()).data.sent, [])

        for contacts, other in [(self.alice, BOB_HANDLE), (self.bob, ALICE_HANDLE)]:
            rows = await contacts.list_agent_contacts()
            self.assertEqual([(row.handle, row.type, row.online) for row in rows.data], [(other, "Agent", False)])
            self.assertEqual((rows.metadata.total_count, rows.metadata.page), (1, 1))
        removed = await self.alice.remove_agent_contact(handle=BOB_HANDLE)
        self.assertEqual(removed.data.status, "removed")
        for contacts in (self.alice, self.bob):
            self.assertEqual((await contacts.list_agent_contacts()).data, [])

    async def test_a_contact_is_removed_by_its_id(self):
        added = (await self.bob.add_agent_contact(handle=ALICE_HANDLE)).data
        await self.respond(self.alice, "approve", added.id)
        [row] = (await self.bob.list_agent_contacts()).data
        self.assertEqual((await self.bob.remove_agent_contact(contact_id=row.id)).data.status, "removed")
        self.assertEqual((await self.alice.list_agent_contacts()).data, [])

    async def test_reject_and_cancel_by_id_and_by_handle(self):
        first = (await self.bob.add_agent_contact(handle=ALICE_HANDLE)).data.id
        self.assertEqual((await self.respond(self.alice, "reject", first)).status, "rejected")
        second = (await self.bob.add_agent_contact(handle=ALICE_HANDLE)).data.id
        self.assertEqual((await self.respond(self.bob, "cancel", second)).status, "cancelled")
        third = (await self.bob.add_agent_contact(handle=ALICE_HANDLE)).data.id
        reply = await self.alice.respond_to_agent_contact_request(action="approve", handle=BOB_HANDLE)
        self.assertEqual((reply.data.id, reply.data.status), (third, "approved"))

    async def test_an_inverse_request_is_approved_by_adding(self):
        first = (await self.bob.add_agent_contact(handle=ALICE_HANDLE)).data
        second = (await self.alice.add_agent_contact(handle=BOB_HANDLE)).data
        self.assertEqual(second.status, "approved")
        self.assertEqual(self.sandbox.status_of(first.id), "approved")
        self.assertEqual(len((await self.alice.list_agent_contacts()).data), 1)

    async def test_pages_of_the_listing(self):
        self.sandbox.control("POST", "requests", {"to": ALICE, "from_handle": "stranger-{n}", "count": 250})
        seen = set()
        for page in (1, 2, 3):
            reply = await self.alice.list_agent_contact_requests(page=page, page_size=100)
            self.assertEqual((reply.metadata.page, reply.metadata.page_size), (page, 100))
            self.assertEqual((reply.metadata.received.total, reply.metadata.received.total_pages), (250, 3))
            seen |= {row.from_handle for row in reply.data.received}
        self.assertEqual(len(seen), 250)
        with self.assertRaises(ApiError) as refused:
            await self.alice.list_agent_contact_requests(page_size=101)
        self.assertEqual(refused.exception.status_code, 422)

    async def test_requests_without_handle_name_or_message_are_parsed(self):
        self.sandbox.ask()
        self.sandbox.ask(from_handle=None, from_name=None, message=None)
        for row in await self.pending(self.alice):
            self.assertEqual((row.from_handle, row.from_name, row.message), (None, None, None))

    def check(self, error, status, code=None):
        """The client has parsed the error's body into its own type."""
        self.assertEqual(error.status_code, status)
        body = error.body.error
        self.assertTrue(body.message)
        self.assertIsInstance(body.request_id, str)
        if code is not None:
            self.assertEqual(body.code, code)

    async def test_400_is_typed(self):
        for call in (
            self.alice.respond_to_agent_contact_request(action="ponder", request_id="x", request_options=ONCE),
            self.alice.respond_to_agent_contact_request(action="approve", request_options=ONCE),
            self.alice.remove_agent_contact(request_options=ONCE),
            self.bob.add_agent_contact(handle="two words", request_options=ONCE),
            self.bob.add_agent_contact(handle=ALICE_HANDLE, message=None, request_options=ONCE),
        ):
            with self.assertRaises(BadRequestError) as refused:
                await call
            self.check(refused.exception, 400)

    async def test_401_is_typed(self):
        stranger = self.client("no-such-key")
        with self.assertRaises(UnauthorizedError) as refused:
            await stranger.agent_api_identity.get_agent_me()
        self.check(refused.exception, 401, "unauthorized")
        with self.assertRaises(UnauthorizedError):
            await self.pending(stranger.agent_api_contacts)
        with self.assertRaises(UnauthorizedError):
            await self.respond(stranger.agent_api_contacts, "approve", "x")

    async def test_403_is_typed(self):
        request = self.sandbox.ask(from_handle="stranger")
        self.sandbox.fault(at="respond", do="status", code=403)
        with self.assertRaises(ForbiddenError) as refused:
            await self.respond(self.alice, "approve", request)
        self.check(refused.exception, 403, "limit_reached")
        self.assertEqual(self.sandbox.status_of(request), "pending")
        with self.assertRaises(ForbiddenError) as refused:
            await self.client(JOHN_KEY).agent_api_identity.get_agent_me()
        self.check(refused.exception, 403)

    async def test_404_is_typed(self):
        with self.assertRaises(NotFoundError) as refused:
            await self.respond(self.alice, "approve", "no-such-request")
        self.check(refused.exception, 404, "not_found")
        with self.assertRaises(NotFoundError):
            await self.alice.add_agent_contact(handle="nobody/here")
        with self.assertRaises(NotFoundError):
            await self.alice.remove_agent_contact(handle="nobody/here")
        theirs = self.sandbox.ask(to=BOB, from_handle="stranger")
        with self.assertRaises(NotFoundError):
            await self.respond(self.alice, "approve", theirs)

    async def test_409_is_typed(self):
        request = self.sandbox.ask(from_handle="stranger")
        await self.respond(self.alice, "reject", request)
        for action in ("reject", "approve"):
            with self.assertRaises(ConflictError) as refused:
                await self.respond(self.alice, action, request)
            self.check(refused.exception, 409)
        self.assertEqual(self.sandbox.status_of(request), "rejected")
        await self.bob.add_agent_contact(handle=ALICE_HANDLE)
        for handle in (ALICE_HANDLE, BOB_HANDLE):
            with self.assertRaises(ConflictError) as refused:
                await self.bob.add_agent_contact(handle=handle, request_options=ONCE)
            self.check(refused.exception, 409)

    async def test_429_is_read_and_waited_for(self):
        self.sandbox.fault(at="list", do="status", code=429, ms=1000)
        with self.assertRaises(ApiError) as refused:
            await self.alice.list_agent_contact_requests(request_options=ONCE)
        self.assertEqual(refused.exception.status_code, 429)
        self.assertEqual(refused.exception.headers["retry-after"], "1")
        self.assertEqual(refused.exception.body["error"]["retry_after"], 1)
        self.assertIsInstance(refused.exception.body["error"]["request_id"], str)
        self.sandbox.fault(at="list", do="status", code=429)
        self.assertEqual(await self.pending(self.alice), [], "the client tries again by itself")


if __name__ == "__main__":
    unittest.main()

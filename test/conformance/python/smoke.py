"""The Python client of the message network, unchanged, against a node.

    smoke.py URL
"""

import asyncio
import hashlib
import os
import sys
import time

from aleph.sdk.chains.ethereum import ETHAccount
from aleph.sdk.client import AuthenticatedAlephHttpClient
from aleph.sdk.exceptions import ForgottenMessageError, MessageNotFoundError
from aleph.sdk.query.filters import MessageFilter, PostFilter
from aleph.sdk.types import StorageEnum
from aleph_message.models import ItemHash, MessageType, Payment, PaymentType, Chain
from aleph_message.status import MessageStatus

CHANNEL = "CONFORMANCE"


def same(what, got, want):
    """Ends the program when something is not what it should be."""
    if got != want:
        sys.exit(f"{what} is {got!r}, want {want!r}")
    print("ok", what)


async def posts(client, address):
    post, status = await client.create_post({"title": "Zażółć", "n": 1.5}, "note", channel=CHANNEL, ref="a-ref", sync=True)
    same("status of a post", status, MessageStatus.PROCESSED)
    amend, _ = await client.create_post({"title": "new"}, "amend", ref=post.item_hash, channel=CHANNEL, sync=True)
    listed = await client.get_posts(post_filter=PostFilter(addresses=[address]))
    same("posts", [(p.item_hash, p.content) for p in listed.posts], [(amend.item_hash, {"title": "new"})])
    long, status = await client.create_post({"text": "x" * 60_000}, "long", channel=CHANNEL, sync=True)
    same("status of a long post", status, MessageStatus.PROCESSED)
    same("engine of a long post", long.item_type, "storage")
    return post, amend, long


async def messages(client, address, post, amend, long):
    got = await client.get_messages(message_filter=MessageFilter(addresses=[address], message_types=[MessageType.post]), ignore_invalid_messages=False)
    same("messages", [m.item_hash for m in got.messages], [long.item_hash, amend.item_hash, post.item_hash])
    same("one message", (await client.get_message(post.item_hash)).content.content, {"title": "Zażółć", "n": 1.5})
    same("its status", await client.get_message_status(post.item_hash), MessageStatus.PROCESSED)
    try:
        await client.get_message("0" * 64)
        sys.exit("a message that nobody sent was found")
    except MessageNotFoundError:
        print("ok a message that nobody sent")


async def aggregates(client, address):
    await client.create_aggregate("profile", {"name": "Ada", "age": 1}, channel=CHANNEL, sync=True)
    await client.create_aggregate("profile", {"age": 2}, channel=CHANNEL, sync=True)
    same("aggregate", await client.fetch_aggregate(address, "profile"), {"name": "Ada", "age": 2})


async def files(client, address):
    data = os.urandom(100_000)
    store, status = await client.create_store(file_content=data, storage_engine=StorageEnum.storage, channel=CHANNEL, sync=True)
    same("status of a file", status, MessageStatus.PROCESSED)
    same("hash of a file", store.content.item_hash, hashlib.sha256(data).hexdigest())
    same("file", await client.download_file(store.content.item_hash) == data, True)
    pinned, status = await client.create_store(file_content=data, storage_engine=StorageEnum.ipfs, channel=CHANNEL, sync=True)
    same("status of a file in IPFS", status, MessageStatus.PROCESSED)
    same("file in IPFS", await client.download_file(pinned.content.item_hash) == data, True)
    listed = await client.get_account_files(address)
    same("files", {f.file_hash for f in listed.files}, {store.content.item_hash, pinned.content.item_hash})
    return store


async def machines(client, address, store):
    same("balance", (await client.get_balances(address)).credit_balance > 0, True)
    instance, status = await client.create_instance(
        rootfs=store.item_hash,
        rootfs_size=20480,
        memory=2048,
        vcpus=1,
        ssh_keys=["ssh-ed25519 AAAA"],
        payment=Payment(chain=Chain.ETH, type=PaymentType.credit, receiver=None),
        channel=CHANNEL,
        sync=True,
    )
    same("status of an instance", status, MessageStatus.PROCESSED)
    price = await client.get_program_price(instance.item_hash)
    same("price of an instance", str(price.cost), "3.958333333333333333")
    return instance


async def watch(client):
    begun = asyncio.Event()
    heard = asyncio.get_running_loop().create_future()
    channel = f"watch-{time.time()}"

    async def listen():
        begun.set()
        async for message in client.watch_messages(MessageFilter(channels=[channel])):
            heard.set_result(message)
            return

    ear = asyncio.create_task(listen())
    await begun.wait()
    sent, _ = await client.create_post({}, "note", channel=channel, sync=True)
    same("what was heard", (await asyncio.wait_for(heard, 20)).item_hash, sent.item_hash)
    await ear


async def forget(client, post):
    _, status = await client.forget([ItemHash(post.item_hash)], "a test", channel=CHANNEL, sync=True)
    same("status of a FORGET", status, MessageStatus.PROCESSED)
    try:
        await client.get_message(post.item_hash)
        sys.exit("a message was found that is forgotten")
    except ForgottenMessageError:
        print("ok a message that is forgotten")


async def main(url):
    account = ETHAccount(bytes.fromhex(os.environ["CONFORMANCE_ACCOUNT"]))
    address = account.get_address()
    async with AuthenticatedAlephHttpClient(account=account, api_server=url) as client:
        post, amend, long = await posts(client, address)
        await messages(client, address, post, amend, long)
        await aggregates(client, address)
        store = await files(client, address)
        await machines(client, address, store)
        await watch(client)
        await forget(client, post)


asyncio.run(main(sys.argv[1]))

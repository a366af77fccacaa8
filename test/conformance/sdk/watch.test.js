// Messages as they come, over a WebSocket.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { BaseMessageClient } from '@aleph-sdk/message'

import { newClient, node, sockets, unique, until } from './lib.js'

/** Listens until the test ends. */
async function watch(t, filter) {
  const socket = new BaseMessageClient(node, sockets).getMessagesSocket(filter)
  t.after(() => socket.closeSocket())
  await until('the socket', () => socket.getIsOpen())
  return socket
}

const hashes = (socket) => socket.getData().map((m) => m.item_hash)

test('what was sent before comes first, oldest first, and then what is sent', async (t) => {
  const client = newClient()
  const channel = unique('channel')
  const sent = []
  for (let i = 0; i < 4; i++) sent.push((await client.createPost({ postType: 'watch', channel, content: { i }, sync: true })).item_hash)
  const socket = await watch(t, { channels: [channel], history: 3 })
  await until('the history', () => socket.getData().length >= 3)
  assert.deepEqual(hashes(socket), sent.slice(1))
  for (let i = 4; i < 7; i++) sent.push((await client.createPost({ postType: 'watch', channel, content: { i }, sync: true })).item_hash)
  await until('what is sent', () => socket.getData().length >= 6)
  assert.deepEqual(hashes(socket), sent.slice(1))
  const live = socket.getData().at(-1)
  assert.equal(live.content.content.i, 6)
  assert.equal(live.sender, client.account.address)
})

test('each filter holds for what comes', async (t) => {
  const a = newClient()
  const b = newClient()
  const [channel, type, tag, ref, key] = ['channel', 'type', 'tag', 'ref', 'key'].map(unique)
  const filters = {
    channel: { channels: [channel] },
    address: { addresses: [b.account.address] },
    type: { contentTypes: [type] },
    tag: { tags: [tag] },
    ref: { refs: [ref] },
    key: { contentKeys: [key] },
    message: { channels: [channel], messageType: 'AGGREGATE' },
    chain: { channels: [channel], chains: ['SOL'] },
    later: { channels: [channel], startDate: new Date(Date.now() + 3_600_000) },
  }
  const open = {}
  for (const [name, filter] of Object.entries(filters)) open[name] = await watch(t, filter)
  const one = await a.createPost({ postType: type, channel, ref, content: { tags: [tag] }, sync: true })
  const two = await b.createAggregate({ key, content: {}, channel, sync: true })
  const three = await b.createPost({ postType: 'other', content: {}, sync: true })
  const want = { channel: [one, two], address: [two, three], type: [one], tag: [one], ref: [one], key: [two], message: [two], chain: [], later: [] }
  for (const [name, messages] of Object.entries(want)) {
    await until(`what ${name} finds`, () => open[name].getData().length >= messages.length)
    assert.deepEqual(hashes(open[name]), messages.map((m) => m.item_hash), name)
  }
})

test('watchMessages (defect of the package) listens to the public server, whatever was configured', () => {
  const client = newClient()
  assert.notEqual(client.messageClient.wsServer, sockets)
  assert.match(client.messageClient.wsServer, /^wss:/)
  assert.equal(client.messageClient.apiServer, node)
})

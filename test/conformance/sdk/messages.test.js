// Messages of every type: one, lists and pages of them, their status, their errors.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'

import { BaseMessageClient, broadcast, buildMessage, MessageNotFoundError, MessageType, prepareAlephMessage } from '@aleph-sdk/message'

import { fails, get, newClient, node, ok, post, processed, refusalOf, sha256, unique } from './lib.js'

test('a message is read with what it was sent with', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'note', content: { n: 1 }, channel: 'CONFORMANCE', sync: true })
  const got = await client.getMessage(sent.item_hash)
  assert.deepEqual(Object.keys(got).sort(), ['chain', 'channel', 'confirmations', 'confirmed', 'content', 'item_content', 'item_hash', 'item_type', 'sender', 'signature', 'time', 'type'])
  assert.deepEqual(got.content, { address: client.account.address, time: sent.content.time, content: { n: 1 }, ref: null, type: 'note' })
  assert.equal(got.time, Number(sent.time.toFixed(6)))
  assert.deepEqual(got.confirmations, [])
  const typed = await new BaseMessageClient(node).get({ hash: sent.item_hash, messageType: MessageType.post })
  assert.equal(typed.item_hash, sent.item_hash)
  await assert.rejects(() => new BaseMessageClient(node).get({ hash: sent.item_hash, messageType: MessageType.store }), TypeError)
})

test('a message that nobody sent is not found', async () => {
  const err = await fails(() => newClient().getMessage('0'.repeat(64)))
  assert.ok(err instanceof MessageNotFoundError, String(err))
  assert.equal((await get('/api/v0/messages/no-hash')).status, 400)
})

test('status and content are read alone', async () => {
  const sent = await newClient().createPost({ postType: 'note', content: { inner: [1, null] }, sync: true })
  const { status, item_hash, reception_time } = await ok(`/api/v0/messages/${sent.item_hash}/status`)
  assert.equal(status, 'processed')
  assert.equal(item_hash, sent.item_hash)
  assert.match(reception_time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
  assert.deepEqual(await ok(`/api/v0/messages/${sent.item_hash}/content`), { inner: [1, null] })
})

test('a refused message says why', async () => {
  const client = newClient()
  const err = await fails(() => client.createPost({ postType: 'note', address: newClient().account.address, content: { denied: unique('x') }, sync: true }))
  assert.equal(err.name, 'InvalidMessageError')
  assert.equal(refusalOf(err), 422)
  const { message } = JSON.parse(JSON.parse(err.errors[1]).config.data)
  const shown = await ok(`/api/v0/messages/${message.item_hash}`)
  assert.equal(shown.status, 'rejected')
  assert.equal(shown.error_code, 2)
  assert.ok(shown.details.errors[0].includes('is not authorized to post on behalf of address'), JSON.stringify(shown.details))
  assert.equal(shown.message.item_content, message.item_content)
  assert.equal((await client.getMessage(message.item_hash)).item_hash, message.item_hash, 'the package shows it as if it were processed')
})

test('getMessageError (defect of the package) asks the public server, whatever was configured', async () => {
  const axios = createRequire(import.meta.url)('axios')
  let asked
  const id = axios.interceptors.request.use((config) => {
    asked = config.url
    throw new Error('not sent')
  })
  try {
    await fails(() => newClient().getMessageError('0'.repeat(64)))
  } finally {
    axios.interceptors.request.eject(id)
  }
  assert.ok(asked.endsWith('/api/v0/messages/' + '0'.repeat(64)))
  assert.ok(!asked.startsWith(node), asked)
})

test('each filter finds its messages and no others', async () => {
  const a = newClient()
  const b = newClient()
  const [channel, type, tag, ref, key] = ['channel', 'type', 'tag', 'ref', 'key'].map(unique)
  const begin = new Date(Date.now() - 1)
  const one = await a.createPost({ postType: type, ref, channel, content: { tags: [tag] }, sync: true })
  const two = await b.createAggregate({ key, content: { x: 1 }, channel, sync: true })
  const three = await b.createStore({ fileObject: new Blob([unique('f')]), storageEngine: 'storage', channel, payment: { chain: 'ETH', type: 'hold' }, sync: true })
  const end = new Date(Date.now() + 1)
  const both = { channels: [channel] }
  const all = [three, two, one].map((m) => m.item_hash)
  for (const [filter, want] of [
    [{ ...both }, all],
    [{ addresses: [a.account.address] }, [one]],
    [{ addresses: [a.account.address, b.account.address] }, all],
    [{ ...both, messageTypes: ['POST', 'STORE'] }, [three, one]],
    [{ refs: [ref] }, [one]],
    [{ tags: [tag] }, [one]],
    [{ contentTypes: [type] }, [one]],
    [{ contentKeys: [key] }, [two]],
    [{ hashes: [two.item_hash, three.item_hash] }, [three, two]],
    [{ ...both, paymentTypes: ['hold'] }, [three]],
    [{ ...both, chains: ['ETH'] }, all],
    [{ ...both, chains: ['SOL'] }, []],
    [{ ...both, startDate: begin, endDate: end }, all],
    [{ ...both, startDate: end, endDate: new Date(end.valueOf() + 1000) }, []],
    [{ ...both, endDate: begin }, []],
  ]) {
    const { messages } = await a.getMessages(filter)
    assert.deepEqual(messages.map((m) => m.item_hash), want.map((m) => m.item_hash ?? m), JSON.stringify(filter))
  }
})

test('pages have every message once', async () => {
  const client = newClient()
  const sent = []
  for (let i = 0; i < 7; i++) sent.unshift((await client.createPost({ postType: 'page', content: { i }, sync: true })).item_hash)
  const got = []
  for (let page = 1; page <= 4; page++) {
    const list = await client.getMessages({ addresses: [client.account.address], pagination: 2, page })
    assert.equal(list.pagination_page, page)
    assert.equal(list.pagination_per_page, 2)
    assert.equal(list.pagination_total, 7)
    assert.equal(list.pagination_item, 'messages')
    got.push(...list.messages.map((m) => m.item_hash))
  }
  assert.deepEqual(got, sent)
  const walked = []
  for (let cursor = ''; cursor !== null; ) {
    const list = await ok(`/api/v0/messages.json?addresses=${client.account.address}&pagination=3&cursor=${cursor}`)
    walked.push(...list.messages.map((m) => m.item_hash))
    cursor = list.next_cursor
  }
  assert.deepEqual(walked, sent, 'by cursor too')
})

test('the list form has a size, and nothing else besides', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'note', content: {}, sync: true })
  const { messages } = await client.getMessages({ hashes: [sent.item_hash] })
  assert.deepEqual(Object.keys(messages[0]), ['channel', 'chain', 'confirmations', 'confirmed', 'content', 'item_content', 'item_hash', 'item_type', 'sender', 'signature', 'size', 'time', 'type'].sort())
  assert.equal(messages[0].size, Buffer.byteLength(sent.item_content))
})

test('a message that is sent twice is processed once, both times at once', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'note', content: {}, sync: true })
  const began = Date.now()
  const a = await post('/api/v0/messages', { sync: true, message: sent.getBroadcastable() })
  assert.equal(a.status, 200)
  assert.equal(a.json.message_status, 'processed')
  assert.ok(Date.now() - began < 5000)
  assert.equal((await client.getMessages({ hashes: [sent.item_hash] })).messages.length, 1)
})

test('who does not wait is told that it is pending', async () => {
  const client = newClient()
  const timestamp = Date.now() / 1000
  const content = { type: 'note', address: client.account.address, content: {}, time: timestamp }
  const message = await prepareAlephMessage({ message: buildMessage({ account: client.account, timestamp, storageEngine: 'inline', content }, MessageType.post), apiServer: node })
  const { status, response } = await broadcast({ message, account: client.account, apiServer: node })
  assert.equal(status, 'pending')
  assert.deepEqual(response, { publication_status: { status: 'success', failed: [] }, message_status: 'pending' })
})

test('the older way to publish takes a message as an object, as the package sends it', async () => {
  const client = newClient()
  const item_content = JSON.stringify({ type: 'note', address: client.account.address, content: { by: 'pubsub' }, time: Date.now() / 1000 })
  const timestamp = Date.now() / 1000
  const message = await prepareAlephMessage({ message: buildMessage({ account: client.account, timestamp, storageEngine: 'inline', content: JSON.parse(item_content) }, MessageType.post), apiServer: node })
  const signature = await client.account.sign(message)
  const data = { ...message, signature, content: undefined }
  for (const form of [data, JSON.stringify(data)]) {
    const a = await post('/api/v0/ipfs/pubsub/pub', { topic: 'ALEPH-TEST', data: form })
    assert.deepEqual(a.json, { status: 'success', failed: [] }, a.text)
  }
  await processed(sha256(message.item_content))
})

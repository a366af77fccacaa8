// What is forgotten, and what is said of it after.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ForgottenMessageError, MessageNotFoundError } from '@aleph-sdk/message'

import { fails, get, newClient, ok, post, processed, statusOf, unique } from './lib.js'

test('a post is forgotten with its amends, and says by what', async () => {
  const client = newClient()
  const first = await client.createPost({ postType: 'note', content: { secret: true }, channel: 'CONFORMANCE', sync: true })
  const amend = await client.createPost({ postType: 'amend', ref: first.item_hash, content: { secret: 'more' }, sync: true })
  const forget = await client.forget({ hashes: [first.item_hash], reason: 'a mistake', sync: true })
  await processed(forget.item_hash)

  assert.ok((await fails(() => client.getPost({ hashes: [first.item_hash] }))) instanceof MessageNotFoundError)
  const err = await fails(() => client.getMessage(first.item_hash))
  assert.ok(err instanceof ForgottenMessageError, String(err))
  assert.ok(err.message.includes(forget.item_hash), err.message)
  assert.equal(await statusOf(amend.item_hash), 'forgotten')

  const shown = await ok(`/api/v0/messages/${first.item_hash}`)
  assert.deepEqual(Object.keys(shown).sort(), ['forgotten_by', 'item_hash', 'message', 'reception_time', 'status'])
  assert.deepEqual(shown.forgotten_by, [forget.item_hash])
  assert.deepEqual(Object.keys(shown.message).sort(), ['chain', 'channel', 'forgotten_at', 'item_hash', 'item_type', 'owner', 'payment_type', 'sender', 'signature', 'size', 'time', 'type'])
  assert.equal(shown.message.item_content, undefined)

  const { messages } = await client.getMessages({ hashes: [first.item_hash] })
  assert.deepEqual(messages, [], 'lists have it no more')
  const listed = await ok(`/api/v0/messages.json?msgStatuses=forgotten&hashes=${first.item_hash}`)
  assert.equal(listed.messages[0].status, 'forgotten')
})

test('what is forgotten stays so when it is sent again', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'note', content: {}, sync: true })
  await client.forget({ hashes: [sent.item_hash], sync: true })
  const a = await post('/api/v0/messages', { sync: true, message: sent.getBroadcastable() })
  assert.equal(a.status, 410, a.text)
  assert.equal(await statusOf(sent.item_hash), 'forgotten')
})

test('a file is forgotten', async () => {
  const client = newClient()
  const sent = await client.createStore({ fileObject: new Blob([unique('f')]), storageEngine: 'storage', sync: true })
  await client.forget({ hashes: [sent.item_hash], sync: true })
  assert.equal(await statusOf(sent.item_hash), 'forgotten')
  assert.equal((await get(`/api/v0/storage/by-message-hash/${sent.item_hash}`)).status, 404)
  assert.equal((await get(`/api/v0/addresses/${client.account.address}/files`)).status, 404)
})

test('an element of an aggregate is forgotten, and the rest is put together anew', async () => {
  const client = newClient()
  await client.createAggregate({ key: 'k', content: { a: 1 }, sync: true })
  const second = await client.createAggregate({ key: 'k', content: { a: 2, b: 2 }, sync: true })
  await client.forget({ hashes: [second.item_hash], sync: true })
  assert.deepEqual(await client.fetchAggregate(client.account.address, 'k'), { a: 1 })
})

test('what belongs to others is not forgotten', async () => {
  const owner = newClient()
  const sent = await owner.createPost({ postType: 'note', content: {}, sync: true })
  const err = await fails(() => newClient().forget({ hashes: [sent.item_hash], sync: true }))
  assert.equal(err.name, 'InvalidMessageError', String(err))
  assert.equal(await statusOf(sent.item_hash), 'processed')
})

test('a FORGET is not forgotten', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'note', content: {}, sync: true })
  const forget = await client.forget({ hashes: [sent.item_hash], sync: true })
  const err = await fails(() => client.forget({ hashes: [forget.item_hash], sync: true }))
  assert.equal(err.name, 'InvalidMessageError', String(err))
})

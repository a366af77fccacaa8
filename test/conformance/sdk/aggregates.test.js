// Aggregates: keys that hold what was written last.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { MessageNotFoundError } from '@aleph-sdk/message'

import { fails, get, newClient, ok, unique } from './lib.js'

test('an aggregate is made, and its keys are written one by one', async () => {
  const client = newClient()
  const { address } = client.account
  await client.createAggregate({ key: 'profile', content: { name: 'Ada', tags: ['a', 'b'], deep: { x: 1 } }, sync: true })
  assert.deepEqual(await client.fetchAggregate(address, 'profile'), { name: 'Ada', tags: ['a', 'b'], deep: { x: 1 } })
  await client.createAggregate({ key: 'profile', content: { tags: ['c'], deep: { y: 2 }, name: null }, sync: true })
  assert.deepEqual(await client.fetchAggregate(address, 'profile'), { name: null, tags: ['c'], deep: { y: 2 } }, 'a value is replaced whole')
})

test('all aggregates of an address are fetched, or some', async () => {
  const client = newClient()
  const { address } = client.account
  for (const key of ['a', 'b', 'c']) await client.createAggregate({ key, content: { is: key }, sync: true })
  assert.deepEqual(await client.fetchAggregates(address), { a: { is: 'a' }, b: { is: 'b' }, c: { is: 'c' } })
  assert.deepEqual(await client.fetchAggregates(address, ['a', 'c']), { a: { is: 'a' }, c: { is: 'c' } })
  assert.deepEqual(await client.fetchAggregates(address, 'b'), { b: { is: 'b' } })

  assert.deepEqual((await ok(`/api/v0/aggregates/${address}.json?keys=b&value_only=true`)), { is: 'b' })
  const { aggregates } = await ok(`/api/v0/aggregates.json?addresses=${address}`)
  assert.deepEqual(aggregates.map((a) => a.key).sort(), ['a', 'b', 'c'])
})

test('who has no aggregate is not found', async () => {
  const client = newClient()
  const { address } = client.account
  assert.equal((await get(`/api/v0/aggregates/${address}.json`)).status, 404)
  for (const call of [() => client.fetchAggregates(address), () => client.fetchAggregate(address, 'profile')]) {
    const err = await fails(call)
    assert.ok(err instanceof MessageNotFoundError, String(err))
  }
  await client.createAggregate({ key: 'one', content: {}, sync: true })
  const err = await fails(() => client.fetchAggregate(address, 'other'))
  assert.ok(err instanceof MessageNotFoundError, String(err))
})

test('a key of the older kind has a name', async () => {
  const client = newClient()
  const name = unique('key')
  await client.createAggregate({ key: { name }, content: { a: 1 }, sync: true })
  const data = await client.fetchAggregates(client.account.address)
  assert.deepEqual(Object.values(data), [{ a: 1 }])
})

test('a large aggregate goes by add_json', async () => {
  const client = newClient()
  const content = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`key-${i}`, { n: i, text: 'żółw' }]))
  const sent = await client.createAggregate({ key: 'large', content, sync: true })
  assert.equal(sent.item_type, 'storage')
  assert.deepEqual(await client.fetchAggregate(client.account.address, 'large'), content)
})

test('who may write for another is in the aggregate security', async () => {
  const owner = newClient()
  const delegate = newClient()
  const refused = await fails(() => delegate.createPost({ postType: 'note', address: owner.account.address, content: {}, sync: true }))
  assert.equal(refused.name, 'InvalidMessageError')
  await owner.createAggregate({ key: 'security', channel: 'security', content: { authorizations: [{ address: delegate.account.address, types: ['POST'], post_types: ['note'] }] }, sync: true })
  const sent = await delegate.createPost({ postType: 'note', address: owner.account.address, content: { by: 'delegate' }, sync: true })
  const got = await owner.getPost({ addresses: [owner.account.address] })
  assert.equal(got.item_hash, sent.item_hash)
  assert.equal(got.address, owner.account.address)

  const received = await ok(`/api/v0/authorizations/received/${delegate.account.address}.json`)
  assert.deepEqual(Object.keys(received.authorizations), [owner.account.address])
})

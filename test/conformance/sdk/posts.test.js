// Posts: made, amended, read one by one and in lists.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { MessageNotFoundError, PostMessageClient } from '@aleph-sdk/message'

import { fails, get, newClient, node, ok, processed, sha256, unique } from './lib.js'

test('a post is processed, read and has the hash of what was sent', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'note', content: { title: 'Zażółć', n: 1.5 }, channel: 'CONFORMANCE', sync: true })
  assert.equal(sent.item_hash, sha256(sent.item_content))

  const got = await client.getPost({ hashes: [sent.item_hash] })
  assert.deepEqual(got.content, { title: 'Zażółć', n: 1.5 })
  assert.equal(got.item_hash, sent.item_hash)
  assert.equal(got.original_item_hash, sent.item_hash)
  assert.equal(got.hash, sent.item_hash)
  assert.equal(got.item_content, sent.item_content, 'the content is the exact text')
  assert.equal(got.signature, sent.signature)
  assert.equal(got.sender, client.account.address)
  assert.equal(got.address, client.account.address)
  assert.equal(got.channel, 'CONFORMANCE')
  assert.equal(got.type, 'note')
  assert.equal(got.confirmed, false)
  assert.equal(got.size, Buffer.byteLength(sent.item_content))
  assert.equal(got.time, Number(sent.time.toFixed(6)))
})

test('a post without sync is pending to its sender and processed soon', async () => {
  const sent = await newClient().createPost({ postType: 'note', content: { body: 'async' } })
  assert.equal((await processed(sent.item_hash)).message.item_hash, sent.item_hash)
})

test('an amend takes the place of the content', async () => {
  const client = newClient()
  const first = await client.createPost({ postType: 'note', content: { body: 'one', kept: false }, sync: true })
  const second = await client.createPost({ postType: 'amend', ref: first.item_hash, content: { body: 'two' }, sync: true })
  const got = await client.getPost({ hashes: [first.item_hash] })
  assert.deepEqual(got.content, { body: 'two' })
  assert.equal(got.type, 'amend')
  assert.equal(got.original_type, 'note')
  assert.equal(got.item_hash, second.item_hash)
  assert.equal(got.original_item_hash, first.item_hash)
  assert.equal(got.original_signature, first.signature)

  const { posts } = await ok(`/api/v1/posts.json?hashes=${first.item_hash}`)
  assert.equal(posts.length, 1)
  assert.deepEqual(Object.keys(posts[0]).sort(), ['address', 'channel', 'content', 'created', 'item_hash', 'last_updated', 'original_item_hash', 'original_type', 'ref'])
  assert.deepEqual(posts[0].content, { body: 'two' })
  assert.equal(posts[0].original_type, 'note')
})

test('a reference is shown and searched', async () => {
  const client = newClient()
  const ref = unique('ref')
  const sent = await client.createPost({ postType: 'note', ref, content: { a: 1 }, sync: true })
  const got = await client.getPost({ refs: [ref] })
  assert.equal(got.item_hash, sent.item_hash)
  assert.equal(got.ref, ref)
})

test('each filter finds its posts and no others', async () => {
  const a = newClient()
  const b = newClient()
  const [channel, type, tag, ref] = ['channel', 'type', 'tag', 'ref'].map(unique)
  const plain = await a.createPost({ postType: unique('type'), content: {}, sync: true })
  const full = await b.createPost({ postType: type, ref, channel, content: { tags: [tag, 'other'] }, sync: true })
  for (const filter of [{ types: type }, { types: [type, 'nothing'] }, { refs: [ref] }, { tags: [tag] }, { channels: [channel] }, { hashes: [full.item_hash] }, { addresses: [b.account.address] }]) {
    const got = await a.getPosts(filter)
    assert.deepEqual(got.posts.map((p) => p.item_hash), [full.item_hash], JSON.stringify(filter))
    assert.equal(got.pagination_total, 1)
    assert.equal(got.pagination_item, 'posts')
  }
  const both = await a.getPosts({ addresses: [a.account.address, b.account.address] })
  assert.deepEqual(both.posts.map((p) => p.item_hash), [full.item_hash, plain.item_hash], 'newest first')
  const none = await a.getPosts({ addresses: [a.account.address], types: type })
  assert.deepEqual(none.posts, [], 'filters hold together')
})

test('pages have every post once', async () => {
  const client = newClient()
  const sent = []
  for (let i = 0; i < 7; i++) sent.unshift((await client.createPost({ postType: 'page', content: { i }, sync: true })).item_hash)
  const got = []
  for (let page = 1; page <= 3; page++) {
    const list = await client.getPosts({ addresses: [client.account.address], pagination: 3, page })
    assert.equal(list.pagination_page, page)
    assert.equal(list.pagination_per_page, 3)
    assert.equal(list.pagination_total, 7)
    got.push(...list.posts.map((p) => p.item_hash))
  }
  assert.deepEqual(got, sent)
  const walked = []
  for (let cursor = ''; cursor !== null; ) {
    const list = await ok(`/api/v0/posts.json?addresses=${client.account.address}&pagination=2&cursor=${cursor}`)
    walked.push(...list.posts.map((p) => p.item_hash))
    cursor = list.next_cursor
  }
  assert.deepEqual(walked, sent, 'by cursor too')
})

test('a post that nobody sent is not found', async () => {
  const err = await fails(() => newClient().getPost({ hashes: ['0'.repeat(64)] }))
  assert.ok(err instanceof MessageNotFoundError, String(err))
})

test('a content of 50 000 bytes goes by add_json', async () => {
  const client = newClient()
  const content = { body: 'x'.repeat(50_000) }
  const sent = await client.createPost({ postType: 'long', content, sync: true })
  assert.equal(sent.item_type, 'storage')
  assert.equal(sent.item_content, undefined)
  const shown = await processed(sent.item_hash)
  assert.equal(shown.message.item_type, 'storage')
  assert.deepEqual((await client.getPost({ hashes: [sent.item_hash] })).content, content)
})

test('a content may be put in IPFS', async () => {
  const client = newClient()
  const sent = await client.createPost({ postType: 'ipfs', content: { body: 'in ipfs' }, storageEngine: 'ipfs', sync: true })
  assert.match(sent.item_hash, /^Qm/)
  await processed(sent.item_hash)
  assert.deepEqual((await client.getPost({ hashes: [sent.item_hash] })).content, { body: 'in ipfs' })
})

test('the address of a server may end with slashes', async () => {
  const got = await new PostMessageClient(node + '//').getAll({ types: unique('type') })
  assert.deepEqual(got.posts, [])
})

test('wrong parameters are refused', async () => {
  assert.equal((await get('/api/v0/posts.json?pagination=-1')).status, 422)
  assert.equal((await get('/api/v0/posts.json?page=0')).status, 422)
})

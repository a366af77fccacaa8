// Files: brought, named, read and compared.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'

import { ItemType } from '@aleph-sdk/message'

import { fails, get, newClient, node, ok, processed, refusalOf, sha256, unique } from './lib.js'

const bytes = (size) => randomBytes(size)

test('a Blob is brought with its message, and read back', async () => {
  const client = newClient()
  const data = bytes(100_000)
  const sent = await client.createStore({ fileObject: new Blob([data]), storageEngine: ItemType.storage, channel: 'CONFORMANCE', sync: true })
  assert.equal(sent.content.item_hash, sha256(data))
  assert.equal((await processed(sent.item_hash)).status, 'processed')
  assert.deepEqual(Buffer.from(await client.downloadFile(sent.content.item_hash)), data)

  const shown = await ok(`/api/v0/storage/${sent.content.item_hash}`)
  assert.deepEqual(Object.keys(shown).sort(), ['content', 'engine', 'hash', 'status'])
  assert.equal(shown.engine, 'storage')
  assert.deepEqual(Buffer.from(shown.content, 'base64'), data)
  assert.equal(await ok(`/api/v0/storage/count/${sent.content.item_hash}`), 1)
  const { file_hash, size, download_url } = await ok(`/api/v0/storage/by-message-hash/${sent.item_hash}`)
  assert.deepEqual({ file_hash, size, download_url }, { file_hash: sha256(data), size: data.length, download_url: `/api/v0/storage/raw/${sha256(data)}` })
  const { files, total_size } = await ok(`/api/v0/addresses/${client.account.address}/files`)
  assert.deepEqual(files.map((f) => f.file_hash), [sha256(data)])
  assert.equal(total_size, data.length)
})

test('a File keeps its name out of its hash', async () => {
  const client = newClient()
  const data = bytes(1000)
  const sent = await client.createStore({ fileObject: new File([data], 'zażółć.bin', { type: 'image/png' }), storageEngine: 'storage', sync: true })
  assert.equal(sent.content.item_hash, sha256(data))
  assert.equal((await processed(sent.item_hash)).message.content.item_hash, sha256(data))
})

test('the engine is storage if none is named', async () => {
  const sent = await newClient().createStore({ fileObject: new Blob(['no engine ' + unique('f')]), sync: true })
  assert.equal(sent.content.item_type, 'storage')
  await processed(sent.item_hash)
})

test('a Buffer of text is brought as a part without a name', async () => {
  const client = newClient()
  const data = Buffer.from('plain text ' + unique('f'))
  const sent = await client.createStore({ fileObject: data, storageEngine: 'storage', sync: true })
  await processed(sent.item_hash)
  assert.deepEqual(Buffer.from(await client.downloadFile(sha256(data))), data)
})

test('a Buffer of bytes (defect of the package): it is sent as text, so its hash is another and it is refused', async () => {
  // FormData makes a text of a Buffer: every byte that is not UTF-8 becomes EF BF BD.
  const client = newClient()
  const data = Buffer.from([0x00, 0xff, 0xfe, 0x80])
  const err = await fails(() => client.createStore({ fileObject: data, storageEngine: 'storage', sync: true }))
  assert.equal(err.name, 'InvalidMessageError', String(err))
  assert.equal(refusalOf(err), 422)
  assert.equal((await get(`/api/v0/storage/raw/${sha256(data)}`)).status, 404)
  const seen = Buffer.from(data.toString())
  assert.equal(seen.toString('hex'), '00efbfbdefbfbdefbfbd')
  assert.equal((await get(`/api/v0/storage/raw/${sha256(seen)}`)).status, 404, 'what is refused leaves nothing')
})

test('a file is brought to IPFS, pinned by another, and read by its CID', async () => {
  const client = newClient()
  const data = bytes(300_000)
  const sent = await client.createStore({ fileObject: data, storageEngine: ItemType.ipfs, sync: true })
  const cid = sent.content.item_hash
  assert.match(cid, /^Qm[1-9A-HJ-NP-Za-km-z]{44}$/)
  await processed(sent.item_hash)
  assert.deepEqual(Buffer.from(await client.downloadFile(cid)), data)

  const pin = await newClient().storeClient.pin({ account: newClient().account, fileHash: cid, channel: 'CONFORMANCE' })
  await processed(pin.item_hash)
  assert.equal(await ok(`/api/v0/storage/count/${cid}`), 3, 'two messages and the upload, which came before its message')
  const gateway = await fetch(`${node}/ipfs/${cid}`)
  assert.deepEqual(Buffer.from(await gateway.arrayBuffer()), data)
})

test('what nobody has is pending', async () => {
  const client = newClient()
  const sent = await client.storeClient.pin({ account: client.account, fileHash: 'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG' })
  const { status } = await ok(`/api/v0/messages/${sent.item_hash}/status`)
  assert.equal(status, 'pending')
  const err = await fails(() => client.downloadFile('0'.repeat(64)))
  assert.equal(err.response.status, 404)
})

test('more about a file is kept', async () => {
  const client = newClient()
  const sent = await client.createStore({ fileObject: new Blob([unique('f')]), storageEngine: 'storage', metadata: { name: 'x.txt', tags: ['a'] }, extraFields: { mime: 'text/plain' }, payment: { chain: 'ETH', type: 'hold' }, sync: true })
  await processed(sent.item_hash)
  const { messages } = await client.getMessages({ hashes: [sent.item_hash] })
  assert.deepEqual(messages[0].content.metadata, { name: 'x.txt', tags: ['a'] })
  assert.deepEqual(messages[0].content.extra_fields, { mime: 'text/plain' })
  assert.deepEqual(messages[0].content.payment, { chain: 'ETH', type: 'hold' })
})

test('a newer version of a file has the name of the first', async () => {
  const client = newClient()
  const first = await client.createStore({ fileObject: new Blob([unique('one')]), storageEngine: 'storage', sync: true })
  const data = unique('two')
  // The package does not write a ref; the message of one that does goes through it all the same.
  const { buildMessage, prepareAlephMessage, broadcast, MessageType } = await import('@aleph-sdk/message')
  const upload = await fetch(`${node}/api/v0/storage/add_file`, { method: 'POST', body: form(data) })
  assert.deepEqual(await upload.json(), { status: 'success', hash: sha256(data) })
  const timestamp = Date.now() / 1000
  const content = { address: client.account.address, time: timestamp, item_type: 'storage', item_hash: sha256(data), ref: first.item_hash }
  const message = await prepareAlephMessage({ message: buildMessage({ account: client.account, timestamp, storageEngine: 'inline', content }, MessageType.store), apiServer: node })
  const { status } = await broadcast({ message, account: client.account, apiServer: node, sync: true })
  assert.equal(status, 'processed')
  assert.equal((await ok(`/api/v0/storage/by-ref/${first.item_hash}`)).file_hash, sha256(data))
})

function form(data) {
  const f = new FormData()
  f.append('file', new Blob([data]))
  return f
}

test('raw files have a length, also without a body', async () => {
  const client = newClient()
  const data = bytes(5000)
  await client.createStore({ fileObject: new Blob([data]), storageEngine: 'storage', sync: true })
  const head = await fetch(`${node}/api/v0/storage/raw/${sha256(data)}?find`, { method: 'HEAD' })
  assert.equal(head.status, 200)
  assert.equal(head.headers.get('content-length'), '5000')
  assert.equal(head.headers.get('content-type'), 'application/octet-stream')
})

// Helia's bitswap and js-libp2p, unchanged, against a node that is a peer of an IPFS
// network: blocks both ways, who has what, and archives.
import './es2024.js'

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'

import { createBitswap } from '@helia/bitswap'
import { CarReader, CarWriter } from '@ipld/car'
import { defaultLogger } from '@libp2p/logger'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { ethers } from 'ethers'
import { exporter } from 'ipfs-unixfs-exporter'
import { importer } from 'ipfs-unixfs-importer'
import { CID } from 'multiformats/cid'

import { peer, post, signed, until, url, waitMax } from './lib.js'

const address = multiaddr(process.env.ALEPH_IPFS)
const wallet = ethers.Wallet.createRandom()

// Peer is a peer of IPFS with its blocks in memory.
class Peer {
  async start () {
    this.blocks = new MemoryBlockstore()
    this.libp2p = await peer('/ipfs/lan/kad/1.0.0')
    const nobody = { async * findProviders () {}, async provide () {}, async cancelReprovide () {} }
    this.bitswap = createBitswap({ libp2p: this.libp2p, blockstore: this.blocks, routing: nobody, logger: defaultLogger() })
    await this.bitswap.start()
    return this
  }

  async stop () {
    await this.bitswap?.stop()
    await this.libp2p?.stop()
  }

  // add keeps a file and returns its CID.
  async add (content) {
    for await (const entry of importer([{ content }], this.blocks, { cidVersion: 1, rawLeaves: true })) {
      return entry.cid
    }
  }

  // read returns a file, whose blocks come by bitswap if they are not here. Each is
  // compared with its CID by bitswap.
  async read (cid) {
    const { blocks, bitswap } = this
    const source = {
      async * get (one, options) {
        if (await blocks.has(one)) {
          yield * blocks.get(one, options)
          return
        }
        const block = await bitswap.want(one, { signal: AbortSignal.timeout(waitMax) })
        await blocks.put(one, block)
        yield block
      }
    }
    const parts = []
    for await (const part of (await exporter(cid, source)).content()) parts.push(part)
    return Buffer.concat(parts)
  }
}

// store returns a signed STORE of something in IPFS.
const store = (cid) => signed(wallet, 'STORE', { item_type: 'ipfs', item_hash: cid.toString() })

// upload brings bytes to the node, and returns their CID.
async function upload (data) {
  const form = new FormData()
  form.append('file', new Blob([data]))
  const answer = await fetch(`${url}/api/v0/ipfs/add_file`, { method: 'POST', body: form })
  assert.equal(answer.status, 200)
  return CID.parse((await answer.json()).hash)
}

let a
let b

before(async () => {
  a = await new Peer().start()
  b = await new Peer().start()
  await a.libp2p.dial(address)
  await b.libp2p.dial(address)
})

after(async () => {
  await a?.stop()
  await b?.stop()
})

test('bitswap: a peer gets what the node has', async () => {
  const data = randomBytes(3_000_000)
  assert.ok((await a.read(await upload(data))).equals(data))
})

test('bitswap: the node gets what a peer has, for a message that names it', async () => {
  const data = randomBytes(3_000_000)
  const cid = await a.add(data)
  const message = await store(cid)
  const answer = await post(message)
  assert.ok(answer.status < 300, `${answer.status} ${await answer.text()}`)
  await until('the message is processed', async () => {
    const found = await fetch(`${url}/api/v0/messages/${message.item_hash}`)
    return found.status === 200 && (await found.json()).status === 'processed'
  })
  const raw = await fetch(`${url}/api/v0/storage/raw/${cid}`)
  assert.ok(Buffer.from(await raw.arrayBuffer()).equals(data))
})

test('bitswap: from one peer to another through the node', async () => {
  const data = randomBytes(500_000)
  const cid = await a.add(data)
  await post(await store(cid))
  await a.libp2p.hangUp(b.libp2p.peerId)
  await until('the node has it', async () => (await fetch(`${url}/api/v0/storage/raw/${cid}`, { method: 'HEAD' })).status === 200)
  assert.ok((await b.read(cid)).equals(data))
})

test('DHT: a peer finds who has what in the table of the node', async () => {
  const cid = await a.add(randomBytes(100))
  for await (const event of a.libp2p.services.dht.provide(cid, { signal: AbortSignal.timeout(waitMax) })) {
    assert.notEqual(event.name, 'QUERY_ERROR', String(event.error))
  }
  const found = []
  for await (const event of b.libp2p.services.dht.findProviders(cid, { signal: AbortSignal.timeout(waitMax) })) {
    if (event.name === 'PROVIDER') found.push(...event.providers.map((p) => p.id.toString()))
  }
  assert.ok(found.includes(a.libp2p.peerId.toString()), `${found}`)
})

test('DHT: the node announces what it has', async () => {
  const cid = await upload(randomBytes(100))
  const id = a.libp2p.getConnections().find((c) => c.remoteAddr.toString().startsWith(address.toString())).remotePeer.toString()
  await until('the node is found', async () => {
    for await (const event of b.libp2p.services.dht.findProviders(cid, { signal: AbortSignal.timeout(5000), useNetwork: true })) {
      if (event.name === 'PROVIDER' && event.providers.some((p) => p.id.toString() === id)) return true
    }
    return false
  })
})

test('CAR: the node writes what a peer reads', async () => {
  const data = randomBytes(3_000_000)
  const cid = await upload(data)
  const answer = await fetch(`${url}/ipfs/${cid}?format=car`)
  assert.equal(answer.status, 200)
  const car = await CarReader.fromBytes(new Uint8Array(await answer.arrayBuffer()))
  assert.deepEqual((await car.getRoots()).map(String), [cid.toString()])
  const c = new Peer()
  c.blocks = new MemoryBlockstore()
  c.bitswap = { want: (one) => assert.fail(`${one} is not in the archive`) }
  for await (const { cid: one, bytes } of car.blocks()) {
    await c.blocks.put(one, bytes)
  }
  assert.ok((await c.read(cid)).equals(data))
})

test('CAR: the node reads what a peer writes', async () => {
  const all = []
  const blocks = {
    async put (cid, bytes) {
      all.push({ cid, bytes })
      return cid
    }
  }
  const files = [1, 2, 3].map((n) => ({ path: `folder/${n}.txt`, content: randomBytes(n * 300_000) }))
  let root
  for await (const entry of importer(files, blocks, { cidVersion: 1, rawLeaves: true })) root = entry.cid
  const { writer, out } = CarWriter.create([root])
  const parts = []
  const read = (async () => { for await (const part of out) parts.push(part) })()
  for (const block of all) await writer.put(block)
  await writer.close()
  await read
  const form = new FormData()
  form.append('file', new Blob(parts), 'folder.car')
  form.append('metadata', new Blob([JSON.stringify({ message: await store(root), sync: true })], { type: 'application/json' }))
  const answer = await fetch(`${url}/api/v0/ipfs/add_car`, { method: 'POST', body: form })
  assert.ok(answer.status < 300, `${answer.status} ${await answer.text()}`)
  for (const file of files) {
    const got = await fetch(`${url}/ipfs/${root}/${file.path.split('/')[1]}`)
    assert.ok(Buffer.from(await got.arrayBuffer()).equals(file.content))
  }
})

// js-libp2p, unchanged, against a node: what it takes to be one of its peers.
import './es2024.js'

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { gossipsub } from '@libp2p/gossipsub'
import { multiaddr } from '@multiformats/multiaddr'
import { ethers } from 'ethers'

import { peer, post, signed, until, url } from './lib.js'

const topic = process.env.ALEPH_TOPIC

// rustHash is how the network names a payload: SipHash-1-3 with a key of zeros.
function rustHash (data) {
  const mask = (1n << 64n) - 1n
  const rotl = (x, n) => ((x << n) | (x >> (64n - n))) & mask
  let [v0, v1, v2, v3] = [0x736f6d6570736575n, 0x646f72616e646f6dn, 0x6c7967656e657261n, 0x7465646279746573n]
  const round = () => {
    v0 = (v0 + v1) & mask; v1 = rotl(v1, 13n) ^ v0; v0 = rotl(v0, 32n)
    v2 = (v2 + v3) & mask; v3 = rotl(v3, 16n) ^ v2
    v0 = (v0 + v3) & mask; v3 = rotl(v3, 21n) ^ v0
    v2 = (v2 + v1) & mask; v1 = rotl(v1, 17n) ^ v2; v2 = rotl(v2, 32n)
  }
  const word = (m) => { v3 ^= m; round(); v0 ^= m }
  const b = Buffer.from(data)
  word(BigInt(b.length))
  let at = 0
  for (; at + 8 <= b.length; at += 8) word(b.readBigUInt64LE(at))
  const last = Buffer.alloc(8)
  b.copy(last, 0, at)
  last[7] = (b.length + 8) & 0xff
  word(last.readBigUInt64LE(0))
  v2 ^= 0xffn
  round(); round(); round()
  return new TextEncoder().encode(String(v0 ^ v1 ^ v2 ^ v3))
}

// open makes a peer of the node only: the table would let two of them meet directly.
async function open () {
  const id = node.getComponents().find((c) => c.name === 'p2p').value
  const stranger = (peer) => peer.toString() !== id
  return peer('/aleph/kad/1.0.0', {
    connectionGater: { denyDialPeer: stranger, denyInboundEncryptedConnection: stranger },
    services: { pubsub: gossipsub({ globalSignaturePolicy: 'StrictSign', msgIdFn: (m) => rustHash(m.data), allowPublishToZeroTopicPeers: false }) }
  })
}

// message returns a signed POST.
const message = (wallet, body) => signed(wallet, 'POST', { type: 'test', content: { body } })

let node // the address and id of the node
let a
let b
const wallet = ethers.Wallet.createRandom()

before(async () => {
  const info = await (await fetch(`${url}/api/v0/info/public.json`)).json()
  node = multiaddr(info.node_multi_addresses.find((addr) => addr.includes('/tcp/')))
  a = await open()
  b = await open()
})

after(async () => {
  await a?.stop()
  await b?.stop()
})

test('noise and yamux over TCP', async () => {
  const conn = await a.dial(node)
  assert.equal(conn.remotePeer.toString(), node.getComponents().find((c) => c.name === 'p2p').value)
  assert.equal(conn.encryption, '/noise')
  assert.equal(conn.multiplexer, '/yamux/1.0.0')
})

test('identify both ways', async () => {
  const [conn] = a.getConnections()
  const known = await until('the node is identified', async () => {
    const p = await a.peerStore.get(conn.remotePeer)
    return p.protocols.length > 0 && p
  })
  for (const protocol of ['/ipfs/id/1.0.0', '/ipfs/ping/1.0.0', '/aleph/kad/1.0.0', '/aleph/v1/ask', '/aleph/v1/bulk']) {
    assert.ok(known.protocols.includes(protocol), `${protocol} in ${known.protocols}`)
  }
  assert.match(new TextDecoder().decode(known.metadata.get('AgentVersion')), /^aleph-onchain\//)
  const mine = await until('the node knows this peer', async () => {
    const answer = await (await fetch(`${url}/api/v1/peers`)).json()
    return answer.peers.find((p) => p.id === a.peerId.toString() && p.agent !== '')
  })
  assert.match(mine.agent, /libp2p/)
  assert.equal(mine.direction, 'in')
  assert.equal(mine.transport, 'tcp')
})

test('ping both ways', async () => {
  assert.ok(await a.services.ping.ping(a.getConnections()[0].remotePeer) >= 0)
  await until('the node has measured this peer', async () => {
    const answer = await (await fetch(`${url}/api/v1/peers`)).json()
    return answer.peers.some((p) => p.id === a.peerId.toString() && p.latency_ms > 0)
  })
})

test('gossipsub both ways', async () => {
  const heard = []
  a.services.pubsub.addEventListener('message', (e) => {
    const m = e.detail
    if (m.topic === topic) heard.push(JSON.parse(new TextDecoder().decode(m.data)).item_hash)
  })
  a.services.pubsub.subscribe(topic)
  await until('the node listens', () => a.services.pubsub.getSubscribers(topic).length === 1)
  await until('the node knows that this peer listens', async () => {
    const answer = await (await fetch(`${url}/api/v1/peers`)).json()
    return answer.peers.some((p) => p.id === a.peerId.toString() && p.topics.includes(topic))
  })

  const there = await message(wallet, 'published by js-libp2p')
  await a.services.pubsub.publish(topic, new TextEncoder().encode(JSON.stringify(there)))
  await until('the node has processed what was published here', async () => {
    const answer = await fetch(`${url}/api/v0/messages/${there.item_hash}`)
    return answer.status === 200 && (await answer.json()).status === 'processed'
  })

  const here = await message(wallet, 'published by the node')
  assert.equal((await post(here)).status, 200)
  await until('this peer hears what the node publishes', () => heard.includes(here.item_hash))
  assert.ok(!heard.includes(there.item_hash), 'it hears its own message')
})

test('gossipsub through the node, from one js-libp2p to another', async () => {
  await b.dial(node)
  const heard = []
  b.services.pubsub.addEventListener('message', (e) => heard.push(new TextDecoder().decode(e.detail.data)))
  b.services.pubsub.subscribe(topic)
  await until('the node knows that both listen', async () => {
    const answer = await (await fetch(`${url}/api/v1/peers`)).json()
    return answer.peers.filter((p) => p.topics.includes(topic)).length === 2
  })
  // A message that is not signed is not passed on.
  const bad = { ...await message(wallet, 'bad'), signature: '0x00' }
  await a.services.pubsub.publish(topic, new TextEncoder().encode(JSON.stringify(bad)))
  // The node passes on at once what comes when it has taken the other into its mesh,
  // which it does each second.
  await until('the other hears what is signed', async () => {
    const good = await message(wallet, 'passed on')
    await a.services.pubsub.publish(topic, new TextEncoder().encode(JSON.stringify(good)))
    await sleep(200)
    return heard.some((text) => text.includes(good.item_hash))
  })
  assert.ok(!heard.some((text) => text.includes(bad.item_hash)), 'a message without a good signature was passed on')
})

test('kad: one js-libp2p finds the other in the table of the node', async () => {
  await until('the other is found', async () => {
    try {
      const found = await b.peerRouting.findPeer(a.peerId, { signal: AbortSignal.timeout(5000), useCache: false })
      return found.multiaddrs.length > 0
    } catch {
      return false
    }
  })
  // Of the closest to a only the node can be asked here.
  const closest = []
  for await (const p of b.peerRouting.getClosestPeers(a.peerId.toMultihash().bytes, { signal: AbortSignal.timeout(10_000) })) {
    closest.push(p.id.toString())
  }
  assert.deepEqual(closest, [node.getComponents().find((c) => c.name === 'p2p').value])
})

// Accounts of every chain: what each signs is accepted, and what is served can be
// verified again. Where a package signs what nobody can verify, the test shows the
// bytes and that the node refuses them.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'

import * as avalanche from '@aleph-sdk/avalanche'
import * as base from '@aleph-sdk/base'
import * as cosmos from '@aleph-sdk/cosmos'
import * as ethereum from '@aleph-sdk/ethereum'
import { EthereumMockProvider, verifyEthereum } from '@aleph-sdk/evm'
import { SignedMessage } from '@aleph-sdk/message'
import * as nuls2 from '@aleph-sdk/nuls2'
import * as solana from '@aleph-sdk/solana'
import * as substrate from '@aleph-sdk/substrate'
import * as tezos from '@aleph-sdk/tezos'
import { InMemorySigner } from '@taquito/signer'
import { verifySignature } from '@taquito/utils'
import bs58 from 'bs58'
import { Wallet } from 'ethers'

import { clientOf, fails, get, ok, post, processed, refusalOf, sha256 } from './lib.js'

const mnemonic = 'legal winner thank year wave sausage worth useful legal winner thank yellow'
const secret = '4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a'

/** A browser's wallet, as far as the packages use one. */
const provider = (chainId = 1) => new EthereumMockProvider({ address: new Wallet(secret).address, privateKey: secret, networkVersion: chainId })

const evm = (message) => verifyEthereum(message, message.signature, message.sender)

/** The bytes that every account signs in its own way. */
const buffer = (m) => Buffer.from([m.chain, m.sender, m.type, m.item_hash].join('\n'))

/** A POST that is not signed yet. */
const signable = ({ chain, sender, item_content }) =>
  new SignedMessage({ chain, sender, type: 'POST', item_type: 'inline', item_content, item_hash: sha256(item_content), time: JSON.parse(item_content).time, content: {}, signature: '' })

const accounts = [
  { name: 'ethereum, new', chain: 'ETH', make: () => ethereum.newAccount().account, verify: evm },
  { name: 'ethereum, of a mnemonic', chain: 'ETH', make: () => ethereum.importAccountFromMnemonic(mnemonic), verify: evm, address: '0x58A57ed9d8d624cBD12e2C467D34787555bB1b25' },
  { name: 'ethereum, of a key', chain: 'ETH', make: () => ethereum.importAccountFromPrivateKey(secret), verify: evm },
  { name: 'ethereum, of a browser wallet', chain: 'ETH', make: () => ethereum.getAccountFromProvider(provider()), verify: evm },
  { name: 'base, new', chain: 'ETH', make: () => base.newAccount().account, verify: evm },
  { name: 'base, of a key', chain: 'ETH', make: () => base.importAccountFromPrivateKey(secret), verify: evm },
  { name: 'base, of a browser wallet', chain: 'ETH', make: () => base.getAccountFromProvider(provider(8453)), verify: evm },
  { name: 'avalanche, of a key', chain: 'ETH', make: () => avalanche.importAccountFromPrivateKey(secret), verify: evm },
  { name: 'avalanche, of a mnemonic', chain: 'ETH', make: () => avalanche.importAccountFromMnemonic(mnemonic), verify: evm },
  { name: 'avalanche, of a browser wallet', chain: 'ETH', make: () => avalanche.getAccountFromProvider(provider(43114)), verify: evm },
  { name: 'solana, new', chain: 'SOL', make: () => solana.newAccount().account, verify: (m) => solana.verifySolana(buffer(m), m.signature) },
  { name: 'solana, of a browser wallet', chain: 'SOL', make: solanaWallet, verify: (m) => solana.verifySolana(buffer(m), m.signature) },
  { name: 'cosmos, new', chain: 'CSDK', make: async () => (await cosmos.newAccount()).account },
  { name: 'cosmos, of a mnemonic', chain: 'CSDK', make: () => cosmos.importAccountFromMnemonic(mnemonic) },
  { name: 'cosmos, of a key of another zone', chain: 'CSDK', make: () => cosmos.importAccountFromPrivateKey('k'.repeat(32), 'osmo') },
  { name: 'substrate, new', chain: 'DOT', make: async () => (await substrate.newAccount()).account },
  { name: 'substrate, of a key', chain: 'DOT', make: () => substrate.importAccountFromPrivateKey('0x' + secret) },
  { name: 'nuls2, new', chain: 'NULS2', make: async () => (await nuls2.newAccount()).account },
  { name: 'nuls2, of a key', chain: 'NULS2', make: () => nuls2.importAccountFromPrivateKey(secret) },
  { name: 'tezos, new', chain: 'TEZOS', make: async () => (await tezos.newAccount()).signerAccount },
  { name: 'tezos, of a secp256k1 key', chain: 'TEZOS', make: () => tezos.importAccountFromPrivateKey('spsk24EJohZHJkZnWEzj3w9wE7BFARpFmq5WAo9oTtqjdJ2t4pyoB3') },
]

function solanaWallet() {
  const { account } = solana.newAccount()
  const { keypair } = account
  return solana.getAccountFromProvider({
    publicKey: keypair.publicKey,
    connected: false,
    connect: async () => {},
    signMessage: async (bytes) => {
      const { signature } = JSON.parse(await account.sign({ getVerificationBuffer: () => Buffer.from(bytes) }))
      return { signature: bs58.decode(signature), publicKey: keypair.publicKey.toString() }
    },
  })
}

for (const { name, chain, make, verify, address } of accounts) {
  test(`${name}: what it signs is processed, and served as it was sent`, async () => {
    const account = await make()
    if (address) assert.equal(account.address, address)
    const client = clientOf(account)
    const sent = await client.createPost({ postType: 'accounts', content: { name }, sync: true })
    assert.equal(sent.chain, chain)
    const got = await client.getMessage(sent.item_hash)
    for (const field of ['chain', 'sender', 'type', 'item_type', 'item_hash', 'item_content', 'signature']) assert.equal(got[field], sent[field], field)
    assert.equal(got.sender, account.address)
    assert.equal(sha256(got.item_content), got.item_hash)
    if (verify) assert.equal(verify(new SignedMessage(got)), true, 'the package verifies what the node serves')
    assert.deepEqual((await client.getPost({ addresses: [account.address], hashes: [sent.item_hash] })).content, { name })
  })

  test(`${name}: a signature of another message is refused`, async () => {
    const account = await make()
    const client = clientOf(account)
    const sent = await client.createPost({ postType: 'accounts', content: { name, of: 'the first' }, sync: true })
    const item_content = JSON.stringify({ type: 'accounts', address: account.address, content: { name, n: randomBytes(4).toString('hex') }, time: sent.time })
    const forged = { ...sent.getBroadcastable(), item_content, item_hash: sha256(item_content) }
    const a = await post('/api/v0/messages', { sync: true, message: forged })
    assert.equal(a.status, 422, a.text)
    const shown = await get(`/api/v0/messages/${forged.item_hash}`)
    if (shown.status !== 404) assert.equal(shown.json.error_code, 1, shown.text)
  })
}

test('avalanche, new (defect of the package): the chain is named ETH, and the signature is one of Avalanche', async () => {
  // An EVM address for C, and for X one without the name of its network.
  for (const [type, form] of [['C_CHAIN', /^0x[0-9a-fA-F]{40}$/], ['X_CHAIN', /^X-1[02-9ac-hj-np-z]{38}$/]]) {
    const { account } = await avalanche.newAccount(avalanche.ChainType[type])
    assert.match(account.address, form)
    const item_content = JSON.stringify({ type: 'accounts', address: account.address, content: { type }, time: Date.now() / 1000 })
    const message = signable({ chain: 'ETH', sender: account.address, item_content })
    // 65 bytes and a checksum of 4 in base58, where ETH has 65 bytes in hexadecimal.
    assert.equal(bs58.decode(await account.sign(message)).length, 69)

    const err = await fails(() => clientOf(account).createPost({ postType: 'accounts', content: { type }, sync: true }))
    assert.equal(err.name, 'InvalidMessageError', String(err))
    assert.equal(refusalOf(err), 422)
  }
})

test('avalanche: a signature of an X address with the right chain is accepted', async () => {
  // What the package would send if it named the chain and wrote the address in full.
  const pair = await avalanche.getKeyPair(secret, avalanche.ChainType.X_CHAIN)
  const account = new avalanche.AvalancheAccount(pair, pair.getAddressString(), pair.getPublicKey().toString('hex'))
  const { default: ava } = await import('avalanche')
  const address = ava.BinTools.getInstance().addressToString('avax', 'X', pair.getAddress())
  const item_content = JSON.stringify({ type: 'accounts', address, content: {}, time: Date.now() / 1000 })
  const message = signable({ chain: 'AVAX', sender: address, item_content })
  message.signature = await account.sign(message)
  const a = await post('/api/v0/messages', { sync: true, message: message.getBroadcastable() })
  assert.equal(a.json?.message_status, 'processed', a.text)
})

test('tezos (defect of the package): the date that is signed has seconds in the place of milliseconds', async () => {
  const { signerAccount: account } = await tezos.newAccount()
  const client = clientOf(account)
  const sent = await client.createPost({ postType: 'accounts', content: {}, sync: true })
  const { signature, publicKey, signingType, dAppUrl } = JSON.parse(sent.signature)
  assert.equal(signingType, 'micheline')
  assert.equal(dAppUrl, 'https://aleph.im')
  const payload = (date) => {
    const bytes = Buffer.from(['Tezos Signed Message:', dAppUrl, date, buffer(sent)].join(' ')).toString('hex')
    return '05' + '0100' + Buffer.from(String(bytes.length)).toString('hex') + bytes
  }
  const wrong = new Date(sent.time).toISOString()
  assert.match(wrong, /^1970-01-21T/)
  assert.equal(verifySignature(payload(wrong), publicKey, signature), true)
  assert.equal(verifySignature(payload(new Date(sent.time * 1000).toISOString()), publicKey, signature), false)
  assert.equal((await processed(sent.item_hash)).status, 'processed', 'the node takes it all the same')
})

test('tezos: the true date is accepted too', async () => {
  const { signerAccount } = await tezos.newAccount()
  const time = Date.now() / 1000
  const item_content = JSON.stringify({ type: 'accounts', address: signerAccount.address, content: { date: 'true' }, time })
  const message = signable({ chain: 'TEZOS', sender: signerAccount.address, item_content })
  // The package signs the date of message.time: give it milliseconds.
  message.signature = await signerAccount.sign(Object.assign(Object.create(message), { time: Math.trunc(time * 1000) }))
  const a = await post('/api/v0/messages', { sync: true, message: message.getBroadcastable() })
  assert.equal(a.json?.message_status, 'processed', a.text)
})

test('tezos: a raw signature without a date is accepted', async () => {
  const { signerAccount } = await tezos.newAccount()
  const wallet = signerAccount.wallet
  assert.ok(wallet instanceof InMemorySigner)
  const time = Date.now() / 1000
  const item_content = JSON.stringify({ type: 'accounts', address: signerAccount.address, content: { raw: true }, time })
  const message = { chain: 'TEZOS', sender: signerAccount.address, type: 'POST', item_type: 'inline', item_content, item_hash: sha256(item_content), time }
  const { sig } = await wallet.sign(buffer(message).toString('hex'))
  message.signature = JSON.stringify({ signature: sig, publicKey: await wallet.publicKey() })
  const a = await post('/api/v0/messages', { sync: true, message })
  assert.equal(a.json?.message_status, 'processed', a.text)
})

test('an address is one owner, however it is written', async () => {
  const account = ethereum.newAccount().account
  const item_content = JSON.stringify({ type: 'accounts', address: account.address.toLowerCase(), content: {}, time: Date.now() / 1000 })
  const message = signable({ chain: 'ETH', sender: account.address, item_content })
  message.signature = await account.sign(message)
  const a = await post('/api/v0/messages', { sync: true, message: message.getBroadcastable() })
  assert.equal(a.json?.message_status, 'processed', a.text)
  const { posts } = await ok(`/api/v0/posts.json?addresses=${account.address.toLowerCase()}`)
  assert.equal(posts.length, 1)
})

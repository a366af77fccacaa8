//! The node under test, as its HTTP interface shows it, and messages to give to it.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::identity::Keypair;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::PeerId;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use crate::Result;

/// What is to happen happens within this time.
const WAIT_MAX: Duration = Duration::from_secs(20);
pub const POLL: Duration = Duration::from_millis(50);
/// An answer over HTTP comes within this time.
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// Waits until `holds` returns something, and fails with `what` if it does not.
pub fn until<T>(what: &str, mut holds: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = std::time::Instant::now() + WAIT_MAX;
    loop {
        if let Some(got) = holds()? {
            return Ok(got);
        }
        if std::time::Instant::now() > end {
            return Err(format!("waited in vain until {what}").into());
        }
        std::thread::sleep(POLL);
    }
}

/// The same for what is true or false.
pub fn until_true(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, || Ok(holds()?.then_some(())))
}

/// A node, whose addresses end without its name.
pub struct Node {
    url: String,
    http: ureq::Agent,
    pub id: PeerId,
    pub tcp: Multiaddr,
    pub quic: Multiaddr,
}

impl Node {
    /// Asks the node at the base URL who it is.
    pub fn meet(url: String) -> Result<Node> {
        let http = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_MAX)).build().into();
        let mut node = Node { url, http, id: PeerId::random(), tcp: Multiaddr::empty(), quic: Multiaddr::empty() };
        let info = node.get("/api/v0/info/public.json")?.1;
        for text in info["node_multi_addresses"].as_array().into_iter().flatten() {
            let mut addr: Multiaddr = text.as_str().unwrap_or_default().parse()?;
            let (Some(Protocol::P2p(id)), Some(Protocol::Ip4(_))) = (addr.pop(), addr.iter().next()) else { continue };
            node.id = id;
            match addr.iter().last().map(|p| p.tag()) {
                Some("tcp") => node.tcp = addr,
                Some("quic-v1") => node.quic = addr,
                _ => {}
            }
        }
        if node.tcp.is_empty() || node.quic.is_empty() {
            return Err(format!("the node does not listen on TCP and QUIC: {info}").into());
        }
        Ok(node)
    }

    /// Returns the status and the JSON of an answer, which is null if it is something else.
    fn get(&self, path: &str) -> Result<(u16, Value)> {
        let mut answer = self.http.get(format!("{}{path}", self.url)).call()?;
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// What the node says of a peer that is connected.
    pub fn peer(&self, id: &str) -> Result<Option<Value>> {
        let (_, answer) = self.get("/api/v1/peers")?;
        Ok(answer["peers"].as_array().and_then(|all| all.iter().find(|p| p["id"] == id)).cloned())
    }

    /// Waits until the node says something of a peer.
    pub fn until_peer(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        until(what, || {
            last = self.peer(id)?.unwrap_or_default();
            Ok(holds(&last).then(|| last.clone()))
        })
        .map_err(|err| format!("{err}; the node says of it {last}").into())
    }

    /// Whether a topic is among those that the node says a peer listens to.
    pub fn until_listens(&self, id: &str, topic: &str) -> Result<()> {
        self.until_peer(id, "the node knows that the peer listens", |p| p["topics"].as_array().is_some_and(|t| t.iter().any(|t| t == topic)))?;
        Ok(())
    }

    /// The node's word for what became of a message; "" for one that it does not know.
    pub fn status(&self, m: &Message) -> Result<String> {
        let (_, answer) = self.get(&format!("/api/v0/messages/{}", m.hash))?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the node has taken in a message that came from a peer.
    pub fn until_processed(&self, m: &Message) -> Result<()> {
        until_true("the node has processed what a peer published", || Ok(self.status(m)? == "processed"))
    }

    /// Hands in a message by HTTP, which the node then publishes.
    pub fn publish(&self, m: &Message) -> Result<()> {
        let mut answer = self.http.post(format!("{}/api/v0/messages", self.url)).send_json(json!({"sync": true, "message": m.envelope}))?;
        match answer.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("the node answers {status} to a message: {}", answer.body_mut().read_to_string()?).into()),
        }
    }

    /// Frames of gossip that the node dropped because of their signatures.
    pub fn unsigned(&self) -> Result<f64> {
        let text = self.http.get(format!("{}/metrics", self.url)).call()?.body_mut().read_to_string()?;
        let lines = text.lines().filter(|l| l.starts_with("aleph_p2p_gossip_dropped_total{") && l.contains("reason=\"invalid_signature\""));
        Ok(lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

/// A signed POST.
#[derive(Clone)]
pub struct Message {
    pub hash: String,
    pub envelope: Value,
}

impl Message {
    /// Signs a POST as an account of Solana, whose keys are those of ed25519.
    pub fn sign(wallet: &Keypair, body: &str) -> Result<Message> {
        let public = bs58::encode(wallet.public().try_into_ed25519()?.to_bytes()).into_string();
        let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let content = json!({"type": "test", "address": public, "content": {"body": body}, "time": time}).to_string();
        let hash = hash_of(&content);
        let signature = bs58::encode(wallet.sign(["SOL", &public, "POST", &hash].join("\n").as_bytes())?).into_string();
        let envelope = json!({
            "chain": "SOL", "sender": public, "type": "POST", "channel": "TEST", "time": time, "item_type": "inline", "item_content": content,
            "item_hash": hash, "signature": json!({"signature": signature, "publicKey": public}).to_string(),
        });
        Ok(Message { hash, envelope })
    }

    /// The same with the signature of another message.
    pub fn forged(mut self, other: &Message) -> Message {
        self.envelope["signature"] = other.envelope["signature"].clone();
        self
    }

    pub fn payload(&self) -> Vec<u8> {
        self.envelope.to_string().into_bytes()
    }

    /// Whether a payload is this message, content and all.
    pub fn is(&self, payload: &[u8]) -> bool {
        let got: Value = serde_json::from_slice(payload).unwrap_or_default();
        got["item_hash"] == self.hash && got["item_content"].as_str().is_some_and(|c| hash_of(c) == self.hash)
    }
}

fn hash_of(content: &str) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

/// Fails with what `say` returns unless it holds.
pub fn want(holds: bool, say: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Box::<dyn Error>::from(say())) }
}

// Package ingest takes in what comes from outside and decides what becomes
// state: messages, offers of paid jobs, and the capacity ads of compute nodes.
//
// A message goes through these stages, and the first that refuses it ends it:
//
//  1. parse: form, content rules, hash (protocol/message);
//  2. signature: the sender's key signed it. Until here nothing is stored, as
//     nobody vouches for the bytes;
//  3. the message becomes a pending row, durable before anything else happens;
//  4. permission: the sender is the address that the content names;
//  5. references: what the content names is known here. What is not known yet
//     may come, so the message stays pending and is looked at again, until it
//     is too old;
//  6. the message, and what it makes, become state together.
//
// A refusal carries the protocol's numeric code and is kept with the message.
// The same message may come any number of times; one that was refused gets
// another chance when somebody posts it again.
//
// What others took in while this node did not hear of it, it reads from them; see
// catchup.go.
//
// What a Pipeline took in, a Remover ends when nobody pays for it any more.
package ingest

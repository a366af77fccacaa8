// Package ingest takes in what comes from outside and decides what becomes
// state: messages, offers of paid jobs, and the capacity ads of compute nodes.
//
// A message goes through these stages, and the first that refuses it ends it:
//
//  1. parse: form, content rules, hash (protocol/message). Of what fails here
//     nothing is stored;
//  2. signature: the sender's key signed it;
//  3. content: the bytes are here, if they are not in the message;
//  4. permission: the sender is the address that the content names, or one that
//     it allows this (protocol/authz);
//  5. references: what the content names is known here. What is not known yet
//     may come, so the message becomes a pending row and is looked at again, until
//     it has been often enough;
//  6. payment: the owner has what it costs;
//  7. the message, and what it makes, become state together.
//
// A refusal carries the protocol's numeric code and is kept with the message.
// The same message may come any number of times; one that was refused gets
// another chance when somebody posts it again.
//
// What others took in while this node did not hear of it, it finds by comparing what they
// have; see catchup.go.
//
// What a Pipeline took in, a Remover ends when nobody pays for it any more.
package ingest

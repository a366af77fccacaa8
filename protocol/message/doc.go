// Package message holds the words of the network: the signed envelope, the
// names of contents (item hashes), the typed contents of the seven types of
// messages, the numeric verdicts on a message that is refused, and the forms
// in which nodes show a message.
//
// Everything in it is a pure function of its input. [Parse] judges what can be
// known from the bytes of a message alone, and [ParseContent] a content that is
// elsewhere; signatures, permissions, balances and references are judged later,
// by packages that hold keys or state.
//
// The rules follow the reference implementation in what they accept: numbers
// may come as text, unknown keys are ignored, kept or refused per object. Two
// rules are tighter on purpose: item hashes must use their alphabet, and
// regular expressions must be of the RE2 kind (no look-around), so that no
// message can make a node compute for minutes.
//
// A JSON text is read once, into a tree of offsets that every reader walks;
// nothing is copied but what a content keeps.
package message

package chainsync

import "context"

// UndoMax is how many blocks can be taken back.
const UndoMax = undoMax

// ArchiveGrace is how long an archive is kept that no transaction names.
const ArchiveGrace = archiveGrace

// MissedTx stands for the transactions of events that were passed over.
const MissedTx = missedTx

// IndexOf is the number of what has a name.
func IndexOf(name string) uint64 { return indexOf(name) }

// EnterMax bounds the events of one transaction.
const EnterMax = enterMax

// ReadOnce is one pass of the reader.
func (s *Syncer) ReadOnce(ctx context.Context) error { return s.read(ctx) }

// TakeOnce takes what is due: what is new, or what had to wait.
func (s *Syncer) TakeOnce(ctx context.Context, again bool) error { return s.take(ctx, again) }

// PublishOnce makes an archive, if one may be made.
func (s *Syncer) PublishOnce(ctx context.Context) error { return s.publish(ctx) }

// Span is how many blocks the next query spans.
func (s *Syncer) Span() uint64 { return s.span }

// FollowOnce reads what an indexer has.
func (s *Syncer) FollowOnce(ctx context.Context, src Source) error { return s.follow(ctx, src) }

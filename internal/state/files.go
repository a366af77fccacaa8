package state

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// FileInfo is what is known of bytes that the network names.
type FileInfo struct {
	Hash      message.ItemHash
	Directory bool // Of IPFS.
	SizeBytes int64
}

// PutFileInfo records that a file is known.
func (tx *Tx) PutFileInfo(ctx context.Context, f FileInfo) error {
	kind := "file"
	if f.Directory {
		kind = "directory"
	}
	tx.touch("files")
	return tx.insert(ctx, "files (pk, type, size)", [][]any{{string(f.Hash), kind, f.SizeBytes}}, " ON CONFLICT (pk) DO UPDATE SET type = excluded.type, size = excluded.size")
}

// DropFileInfo forgets a file.
func (tx *Tx) DropFileInfo(ctx context.Context, hash message.ItemHash) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM files WHERE pk = ?", string(hash)); err != nil {
		return fmt.Errorf("drop file %s: %w", hash, err)
	}
	return nil
}

// FileInfo returns what is known of a file, or errs.NotFound.
func (r reader) FileInfo(ctx context.Context, hash message.ItemHash) (*FileInfo, error) {
	f := FileInfo{Hash: hash}
	var kind string
	err := r.q.QueryRowContext(ctx, "SELECT type, size FROM files WHERE pk = ?", string(hash)).Scan(&kind, &f.SizeBytes)
	if isMissing(err) {
		return nil, errs.New(errs.NotFound, "no file %s", hash)
	}
	if err != nil {
		return nil, fmt.Errorf("read file %s: %w", hash, err)
	}
	f.Directory = kind == "directory"
	return &f, nil
}

// LooseFiles returns up to limit files that nothing pins, after the one with the
// hash.
func (r reader) LooseFiles(ctx context.Context, after message.ItemHash, limit int) (out []message.ItemHash, err error) {
	err = r.each(ctx, "SELECT pk FROM files WHERE pk > ? AND NOT EXISTS (SELECT 1 FROM pins WHERE pins.file = files.pk) ORDER BY pk LIMIT ?", []any{string(after), limit},
		func(scan func(...any) error) error {
			var hash message.ItemHash
			err := scan(&hash)
			out = append(out, hash)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read files that nothing pins: %w", err)
	}
	return out, nil
}

// PinKind says why a file is kept.
type PinKind string

// The kinds of pins. See section 3.4 of the protocol.
const (
	PinMessage PinKind = "message" // A STORE names the file.
	PinContent PinKind = "content" // It is the content of a message.
	PinTx      PinKind = "tx"      // It is an archive that a transaction names.
	PinGrace   PinKind = "grace"   // It may be wanted yet.
)

// Pin keeps a file. One of the kind PinMessage is a version of what its tag names.
type Pin struct {
	Key   string // Who wants the file: the hash of a message, or of a transaction.
	Kind  PinKind
	File  message.ItemHash
	Owner string
	Tag   string // "" unless PinMessage
	Ref   *string
	Name  string    // metadata.name, if there is one
	At    time.Time // content.time
	Until time.Time // Zero is for good.
}

// GraceKey is the key of the pin that keeps a file for a while.
func GraceKey(file message.ItemHash) string { return "grace:" + string(file) }

const pinColumns = "pk, kind, file, owner, tag, ref, name, at, until"

// PutPin writes a pin.
func (tx *Tx) PutPin(ctx context.Context, p Pin) error {
	var until sql.NullInt64
	if !p.Until.IsZero() {
		until = sql.NullInt64{Int64: p.Until.UnixMicro(), Valid: true}
	}
	var tag []byte
	if p.Tag != "" {
		tag = digest(p.Tag)
	}
	tx.touch("files")
	row := []any{p.Key, string(p.Kind), string(p.File), p.Owner, tag, null(p.Ref), p.Name, p.At.UnixMicro(), until}
	return tx.insert(ctx, "pins ("+pinColumns+")", [][]any{row}, " ON CONFLICT (pk) DO UPDATE SET until = excluded.until")
}

// DropPin takes out a pin.
func (tx *Tx) DropPin(ctx context.Context, key string) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM pins WHERE pk = ?", key); err != nil {
		return fmt.Errorf("drop pin %s: %w", key, err)
	}
	tx.touch("files")
	return nil
}

func (r reader) pins(ctx context.Context, where string, args ...any) (out []Pin, err error) {
	err = r.each(ctx, "SELECT "+pinColumns+" FROM pins WHERE "+where, args, func(scan func(...any) error) error {
		var p Pin
		var tag []byte
		var ref sql.NullString
		var at int64
		var until sql.NullInt64
		err := scan(&p.Key, &p.Kind, &p.File, &p.Owner, &tag, &ref, &p.Name, &at, &until)
		p.Ref, p.At = optional[string](ref), micro(at)
		if until.Valid {
			p.Until = micro(until.Int64)
		}
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	return out, nil
}

// onePin is the first of pins, or errs.NotFound with a reason.
func onePin(found []Pin, err error, format string, args ...any) (*Pin, error) {
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, format, args...)
	}
	return &found[0], nil
}

// Pin returns the pin with the key, or errs.NotFound.
func (r reader) Pin(ctx context.Context, key string) (*Pin, error) {
	found, err := r.pins(ctx, "pk = ?", key)
	return onePin(found, err, "no pin %.100s", key)
}

// Tagged returns the newest version of what a tag names, by content.time and then
// by hash, or errs.NotFound. The tag of a STORE is its own hash, its ref if that is
// a hash, or OWNER/REF.
func (r reader) Tagged(ctx context.Context, tag string) (*Pin, error) {
	found, err := r.pins(ctx, "tag = ? ORDER BY at DESC, pk DESC LIMIT 1", digest(tag))
	return onePin(found, err, "no file is tagged %.200s", tag)
}

// CountPins returns how many pins a file has.
func (r reader) CountPins(ctx context.Context, file message.ItemHash) (n int64, err error) {
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM pins WHERE file = ?", string(file)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count pins of %s: %w", file, err)
	}
	return n, nil
}

// PinsOver returns up to limit pins of a kind whose time is over, the longest over
// first.
func (r reader) PinsOver(ctx context.Context, kind PinKind, now time.Time, limit int) ([]Pin, error) {
	return r.pins(ctx, "kind = ? AND until <= ? ORDER BY until, pk LIMIT ?", string(kind), now.UnixMicro(), limit)
}

// Pinned reports whether anything wants a file to be kept.
func (r reader) Pinned(ctx context.Context, file message.ItemHash) (bool, error) {
	n, err := r.CountPins(ctx, file)
	return n > 0, err
}

// PinnedFiles returns the files that something pins.
func (r reader) PinnedFiles(ctx context.Context) (map[message.ItemHash]bool, error) {
	out := map[message.ItemHash]bool{}
	err := r.each(ctx, "SELECT DISTINCT file FROM pins", nil, func(scan func(...any) error) error {
		var hash message.ItemHash
		err := scan(&hash)
		out[hash] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read pinned files: %w", err)
	}
	return out, nil
}

// File is a file that a STORE message names.
type File struct {
	Ref       message.ItemHash // Of the STORE message.
	Hash      message.ItemHash
	Owner     string
	Name      string
	SizeBytes int64 // 0 if it is not known.
	Directory bool
	CreatedAt time.Time // content.time
}

const fileColumns = "SELECT p.pk, p.file, p.owner, p.name, p.at, COALESCE(f.size, 0), COALESCE(f.type, '') FROM pins p LEFT JOIN files f ON f.pk = p.file WHERE p.kind = 'message' AND "

func (r reader) files(ctx context.Context, where string, args ...any) (out []File, err error) {
	err = r.each(ctx, fileColumns+where, args, func(scan func(...any) error) error {
		var f File
		var at int64
		var kind string
		err := scan(&f.Ref, &f.Hash, &f.Owner, &f.Name, &at, &f.SizeBytes, &kind)
		f.CreatedAt, f.Directory = micro(at), kind == "directory"
		out = append(out, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	return out, nil
}

// File returns the file that the STORE message with the hash ref names, or
// errs.NotFound.
func (r reader) File(ctx context.Context, ref message.ItemHash) (*File, error) {
	found, err := r.files(ctx, "p.pk = ?", string(ref))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no file of a STORE message %s", ref)
	}
	return &found[0], nil
}

// FileQuery says which files of an owner, in the order of their times and then of
// their STORE messages.
type FileQuery struct {
	Owner  string
	Hash   message.ItemHash // "" is any
	Oldest bool
	After  *MessagePlace
}

// FilesOf returns up to limit of what a query finds after leaving out the first,
// offset of them, with the count and the sizes of all. A limit of 0 is none.
func (r reader) FilesOf(ctx context.Context, q FileQuery, offset, limit int64) (out []File, total, sizeBytes int64, err error) {
	where, args := "p.owner = ?", []any{q.Owner}
	if q.Hash != "" {
		where, args = where+" AND p.file = ?", append(args, string(q.Hash))
	}
	err = r.q.QueryRowContext(ctx, "SELECT COUNT(*), CAST(COALESCE(SUM(f.size), 0) AS BIGINT) FROM pins p LEFT JOIN files f ON f.pk = p.file WHERE p.kind = 'message' AND "+where, args...).Scan(&total, &sizeBytes)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("count files of %s: %w", q.Owner, err)
	}
	order, sign := " DESC", "<"
	if q.Oldest {
		order, sign = " ASC", ">"
	}
	if p := q.After; p != nil {
		where += " AND (p.at " + sign + " ? OR p.at = ? AND p.pk > ?)"
		args = append(args, p.At.UnixMicro(), p.At.UnixMicro(), string(p.Hash))
	}
	if limit == 0 {
		limit = total
	}
	out, err = r.files(ctx, where+" ORDER BY p.at"+order+", p.pk LIMIT ? OFFSET ?", append(args, limit, offset)...)
	return out, total, sizeBytes, err
}

// PutUses notes the STORE messages that a machine uses.
func (tx *Tx) PutUses(ctx context.Context, machine message.ItemHash, refs []message.ItemHash) error {
	rows := make([][]any, len(refs))
	for i, ref := range refs {
		rows[i] = []any{string(ref), string(machine)}
	}
	return tx.insert(ctx, "uses (ref, machine)", rows, " ON CONFLICT DO NOTHING")
}

// DropUses is the end of a machine.
func (tx *Tx) DropUses(ctx context.Context, machine message.ItemHash) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM uses WHERE machine = ?", string(machine)); err != nil {
		return fmt.Errorf("drop what machine %s uses: %w", machine, err)
	}
	return nil
}

// UserOf returns a machine that uses the STORE message, "" if none does.
func (r reader) UserOf(ctx context.Context, ref message.ItemHash) (machine message.ItemHash, err error) {
	err = r.q.QueryRowContext(ctx, "SELECT machine FROM uses WHERE ref = ? ORDER BY machine LIMIT 1", string(ref)).Scan(&machine)
	if err != nil && !isMissing(err) {
		return "", fmt.Errorf("find who uses %s: %w", ref, err)
	}
	return machine, nil
}

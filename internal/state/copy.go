package state

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// passesMax bounds how often a copy runs after a source that goes on to change.
const passesMax = 8

// Copied is what became of a copy.
type Copied struct {
	Rows   int64
	Tables int
	Change int64 // The last change of the source that the copy has.
	Passes int
	Behind bool // The source has changed since.
}

// At names a place by a word of a command line: a directory, or a URL.
func At(place string) Options {
	if strings.HasPrefix(place, "postgres://") || strings.HasPrefix(place, "postgresql://") {
		return Options{URL: place}
	}
	return Options{Dir: place}
}

// Copy copies every row from one database to another one, which has none yet.
// The source may be in use: each pass reads one snapshot of it, the first all
// rows, the others what has changed meanwhile, until nothing has. Then the rows
// of both are counted and hashed. The target gets all of it with one commit, or
// nothing. say is told what was done.
func Copy(ctx context.Context, from, to Options, say func(string)) (_ Copied, err error) {
	src, err := openSource(ctx, from)
	if err != nil {
		return Copied{}, fmt.Errorf("open source: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	to.patient = true // It waits while tables of the source are read.
	dst, err := OpenAs(ctx, to)
	if err != nil {
		return Copied{}, fmt.Errorf("open target: %w", err)
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	c := &copier{say: say}
	err = dst.Update(ctx, func(tx *Tx) error {
		if err := c.prepare(ctx, tx); err != nil {
			return err
		}
		for !c.equal {
			if err := src.View(ctx, func(v *View) error { return c.pass(ctx, v.reader, tx) }); err != nil {
				return fmt.Errorf("pass %d: %w", c.done.Passes+1, err)
			}
		}
		return nil
	})
	if err != nil {
		return c.done, err
	}
	last, err := lastChange(ctx, src.reader)
	c.done.Behind = last != c.done.Change
	return c.done, err
}

// openSource opens a database to read from it, whoever owns it.
func openSource(ctx context.Context, o Options) (*DB, error) {
	if o.URL != "" {
		o.Replica, o.patient = true, true
		return OpenAs(ctx, o)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, fileName)); err != nil {
		return nil, errs.New(errs.NotFound, "there is no %s in %s: %w", fileName, o.Dir, err)
	}
	r, err := openFile(o.Dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{dir: o.Dir}
	if err := requireVersion(ctx, e, r); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &DB{e: e, r: r, reader: reader{q: pool(e, r), tails: &tails{}, vms: newDecodedVMs()}}, nil
}

// copier is a copy on its way.
type copier struct {
	say    func(string)
	tables []tableInfo
	done   Copied
	equal  bool
}

// isLogged reports whether every write of a table is in the change log. Of the
// other tables, what differs is found by reading them.
func isLogged(table string) bool {
	return slices.Contains([]string{
		"meta", "nodes", "jobs", "accounts", "payments", "offers", "decisions", "capacities", "peers", "acceptances", "vms", "usages", "leases", "vm_events",
	}, table)
}

// prepare learns the tables, and refuses a target that has rows.
func (c *copier) prepare(ctx context.Context, tx *Tx) error {
	all, err := tx.q.e.tables(ctx, tx.q.q)
	if err != nil {
		return err
	}
	// Who owns a database is not a part of what is in it.
	c.tables = slices.DeleteFunc(all, func(t tableInfo) bool { return t.name == "fence" })
	c.done.Tables = len(c.tables)
	for _, t := range c.tables {
		var one int
		err := tx.q.QueryRowContext(ctx, "SELECT 1 FROM "+t.name+" LIMIT 1").Scan(&one)
		if err == nil {
			return errs.New(errs.Conflict, "%s is not empty, it has rows in %s: a copy needs an empty one", tx.q.e.where(), t.name)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("look into %s: %w", t.name, err)
		}
	}
	return nil
}

// pass brings the target to one snapshot of the source.
func (c *copier) pass(ctx context.Context, src reader, tx *Tx) error {
	upTo, err := lastChange(ctx, src)
	if err != nil {
		return err
	}
	c.done.Passes++
	if c.done.Passes == 1 {
		for _, t := range c.tables {
			n, err := c.fill(ctx, src, tx, t)
			if err != nil {
				return fmt.Errorf("copy %s: %w", t.name, err)
			}
			c.say(fmt.Sprintf("copied %d rows of %s", n, t.name))
		}
		c.done.Change = upTo
		return nil
	}
	n, err := c.follow(ctx, src, tx, upTo)
	if err != nil {
		return err
	}
	c.say(fmt.Sprintf("took over %d rows that had changed, up to change %d", n, upTo))
	c.done.Change = upTo
	if n > 0 && c.done.Passes < passesMax {
		return nil
	}
	c.equal = true
	return c.verify(ctx, src, tx)
}

func lastChange(ctx context.Context, r reader) (seq int64, err error) {
	if err := r.q.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM changes").Scan(&seq); err != nil {
		return 0, fmt.Errorf("read change log: %w", err)
	}
	return seq, nil
}

// names are the columns of a table, for a statement.
func (t tableInfo) names() string {
	names := make([]string, len(t.columns))
	for i, col := range t.columns {
		names[i] = col.name
	}
	return strings.Join(names, ", ")
}

// ordered is the query for all rows of a table, in the order of their keys.
func (t tableInfo) ordered() string {
	return "SELECT " + t.names() + " FROM " + t.name + " ORDER BY " + strings.Join(t.key, ", ")
}

// keyOf is the part of a row that is its key.
func (t tableInfo) keyOf(row []any) []any {
	out := make([]any, 0, len(t.key))
	for _, name := range t.key {
		i := slices.IndexFunc(t.columns, func(col columnInfo) bool { return col.name == name })
		out = append(out, row[i])
	}
	return out
}

// values reads a row of the table.
func (t tableInfo) values(scan func(...any) error) ([]any, error) {
	row, into := make([]any, len(t.columns)), make([]any, len(t.columns))
	for i := range row {
		into[i] = &row[i]
	}
	return row, scan(into...)
}

// fill copies all rows of a table into one that has none.
func (c *copier) fill(ctx context.Context, src reader, tx *Tx, t tableInfo) (n int, err error) {
	var rows [][]any
	flush := func() error {
		err := tx.insert(ctx, t.name+" ("+t.names()+")", rows, "")
		n += len(rows)
		rows = rows[:0]
		return err
	}
	err = src.each(ctx, t.ordered(), nil, func(scan func(...any) error) error {
		row, err := t.values(scan)
		if err != nil {
			return err
		}
		if rows = append(rows, row); len(rows) == rowsMax {
			return flush()
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	return n, flush()
}

// follow takes over what has changed since the last pass, and counts it.
func (c *copier) follow(ctx context.Context, src reader, tx *Tx, upTo int64) (n int, err error) {
	changed, complete, err := c.changed(ctx, src, upTo)
	if err != nil {
		return 0, err
	}
	for _, t := range c.tables {
		var k int
		if complete && isLogged(t.name) {
			k, err = c.replace(ctx, src, tx, t, changed[t.name])
		} else {
			k, err = c.merge(ctx, src, tx, t)
		}
		if err != nil {
			return n, fmt.Errorf("follow %s: %w", t.name, err)
		}
		n += k
	}
	return n, nil
}

// changed reads the keys of what has changed, by table, unless the log does not
// go back so far.
func (c *copier) changed(ctx context.Context, src reader, upTo int64) (keys map[string][]any, complete bool, err error) {
	seen := map[Change]bool{}
	keys = map[string][]any{}
	const page = 1000
	for at := c.done.Change; at < upTo; {
		found, err := src.Changes(ctx, at, page)
		if err != nil {
			return nil, false, err
		}
		if len(found) == 0 || found[0].Seq != at+1 {
			return nil, false, nil
		}
		for _, f := range found {
			at = f.Seq
			if f.Seq = 0; !seen[f] {
				seen[f] = true
				keys[f.Topic] = append(keys[f.Topic], f.Key)
			}
		}
	}
	return keys, true, nil
}

// replace writes the rows with the keys as the source has them, or has them not.
func (c *copier) replace(ctx context.Context, src reader, tx *Tx, t tableInfo, keys []any) (n int, err error) {
	for chunk := range chunks(keys) {
		var rows [][]any
		err := src.each(ctx, "SELECT "+t.names()+" FROM "+t.name+" WHERE pk IN "+marks(len(chunk)), chunk, func(scan func(...any) error) error {
			row, err := t.values(scan)
			rows = append(rows, row)
			return err
		})
		if err != nil {
			return n, err
		}
		if _, err := tx.tx.ExecContext(ctx, "DELETE FROM "+t.name+" WHERE pk IN "+marks(len(chunk)), chunk...); err != nil {
			return n, err
		}
		if err := tx.insert(ctx, t.name+" ("+t.names()+")", rows, ""); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

// merge reads a table of both, and makes the target's what the source's is.
func (c *copier) merge(ctx context.Context, src reader, tx *Tx, t tableInfo) (n int, err error) {
	added, gone, err := differences(ctx, src, tx.reader, t)
	if err != nil {
		return 0, err
	}
	where := " WHERE " + strings.Join(t.key, " = ? AND ") + " = ?"
	for _, key := range gone {
		if _, err := tx.tx.ExecContext(ctx, "DELETE FROM "+t.name+where, key...); err != nil {
			return 0, err
		}
	}
	return len(added) + len(gone), tx.insert(ctx, t.name+" ("+t.names()+")", added, "")
}

// differences are the rows that b lacks, and the keys of those that it has and a
// has not. A row that differs is both.
func differences(ctx context.Context, a, b reader, t tableInfo) (added, gone [][]any, err error) {
	left, err := readAll(ctx, a, t)
	if err != nil {
		return nil, nil, err
	}
	defer left.rows.Close()
	right, err := readAll(ctx, b, t)
	if err != nil {
		return nil, nil, err
	}
	defer right.rows.Close()
	for left.row != nil || right.row != nil {
		order := compareKeys(t, left.row, right.row)
		same := order == 0 && slices.EqualFunc(left.row, right.row, func(x, y any) bool { return compareValues(x, y) == 0 })
		if !same && order <= 0 {
			added = append(added, left.row)
		}
		if !same && order >= 0 {
			gone = append(gone, t.keyOf(right.row))
		}
		if order <= 0 {
			err = left.next()
		}
		if order >= 0 && err == nil {
			err = right.next()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return added, gone, nil
}

// cursor is the rows of a table, one after another.
type cursor struct {
	table tableInfo
	rows  *sql.Rows
	row   []any // nil after the last
}

func readAll(ctx context.Context, r reader, t tableInfo) (*cursor, error) {
	rows, err := r.q.QueryContext(ctx, t.ordered()) //nolint:rowserrcheck // next does.
	if err != nil {
		return nil, err
	}
	c := &cursor{table: t, rows: rows}
	if err := c.next(); err != nil {
		return nil, errors.Join(err, rows.Close()) //nolint:sqlclosecheck // The caller closes them otherwise.
	}
	return c, nil
}

func (c *cursor) next() (err error) {
	if c.row = nil; c.rows.Next() {
		c.row, err = c.table.values(c.rows.Scan)
		return err
	}
	return c.rows.Err()
}

// compareKeys orders rows as their databases do; no row comes after all.
func compareKeys(t tableInfo, a, b []any) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	keyA, keyB := t.keyOf(a), t.keyOf(b)
	return slices.CompareFunc(keyA, keyB, compareValues)
}

// compareValues orders values of one column.
func compareValues(a, b any) int {
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	case string:
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y)
		}
	case []byte:
		if y, ok := b.([]byte); ok {
			return bytes.Compare(x, y)
		}
	case nil:
		if b == nil {
			return 0
		}
	}
	return cmp.Compare(fmt.Sprintf("%T", a), fmt.Sprintf("%T", b))
}

// verify compares the rows of both, table by table.
func (c *copier) verify(ctx context.Context, src reader, tx *Tx) error {
	c.done.Rows = 0
	for _, t := range c.tables {
		want, wantSum, err := sum(ctx, src, t)
		if err != nil {
			return fmt.Errorf("verify %s: %w", t.name, err)
		}
		got, gotSum, err := sum(ctx, tx.reader, t)
		if err != nil {
			return fmt.Errorf("verify %s: %w", t.name, err)
		}
		if got != want || gotSum != wantSum {
			return errs.New(errs.Internal, "the copy of %s has %d rows with the hash %x, and the source %d with %x: nothing was kept", t.name, got, gotSum[:8], want, wantSum[:8])
		}
		c.done.Rows += got
	}
	c.say(fmt.Sprintf("compared %d rows of %d tables: counts and hashes are equal", c.done.Rows, len(c.tables)))
	return nil
}

// sum counts and hashes the rows of a table.
func sum(ctx context.Context, r reader, t tableInfo) (n int64, out [sha256.Size]byte, err error) {
	h := sha256.New()
	err = r.each(ctx, t.ordered(), nil, func(scan func(...any) error) error {
		row, err := t.values(scan)
		if err != nil {
			return err
		}
		n++
		for _, v := range row {
			hashValue(h, v)
		}
		return nil
	})
	return n, [sha256.Size]byte(h.Sum(nil)), err
}

// hashValue enters a value so that no two rows give the same bytes.
func hashValue(h hash.Hash, v any) {
	switch x := v.(type) {
	case int64:
		h.Write(binary.BigEndian.AppendUint64([]byte{'i'}, uint64(x)))
	case string:
		h.Write(append(binary.BigEndian.AppendUint64([]byte{'s'}, uint64(len(x))), x...))
	case []byte:
		h.Write(append(binary.BigEndian.AppendUint64([]byte{'b'}, uint64(len(x))), x...))
	default:
		fmt.Fprintf(h, "%T", v)
	}
}

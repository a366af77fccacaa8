// Package state is everything the node knows, in one embedded database.
//
// Services meet here and nowhere else: one commits rows, the change log wakes
// the next. A transaction commits whole or not at all. Rows that mirror the
// chain are written inside Tx.AtBlock, which records how to undo them, so that
// Rollback can take back the blocks of a reorganisation. The package reads no
// clock and makes no random choice; times come from callers.
package state

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // the embedded engine
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	fileName = "state.db"
	// readersMax bounds open read connections; each holds its page cache.
	readersMax = 8
	// pragmas: WAL so readers never wait for the writer, FULL so that a commit
	// survives a power cut (an acceptance that was signed must not be forgotten),
	// a busy timeout longer than any transaction of ours.
	pragmas = "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)" +
		"&_pragma=foreign_keys(1)&_pragma=temp_store(2)&_pragma=cache_size(-8192)"
)

// DB is the node's database. Use Open. It is safe for concurrent use.
type DB struct {
	reader
	dir  string
	w, r *sql.DB
	held *os.File // the lock of the directory

	mu    sync.Mutex
	wakes map[string][]chan struct{} // by topic; guarded by mu
}

// Open opens the database in dir, creating and migrating it as needed. Only one
// process may have it open: a second one gets errs.Conflict.
func Open(ctx context.Context, dir string) (_ *DB, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", full(filepath.Dir(dir), err))
	}
	held, err := lock(dir)
	if err != nil {
		return nil, full(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, held.Close())
		}
	}()
	path := filepath.Join(dir, fileName)
	w, err := sql.Open("sqlite", source(path, "_txlock=immediate&"+pragmas))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := migrate(ctx, w); err != nil {
		return nil, fmt.Errorf("migrate %s: %w", path, full(dir, err))
	}
	r, err := sql.Open("sqlite", source(path, "mode=ro&"+pragmas))
	if err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	r.SetMaxOpenConns(readersMax)
	return &DB{reader: reader{q: r, tails: &tails{}}, dir: dir, w: w, r: r, held: held, wakes: map[string][]chan struct{}{}}, nil
}

// source names a database file for the engine, whatever its path has in it.
func source(path, query string) string {
	escaped := &url.URL{Path: path}
	return (&url.URL{Scheme: "file", Opaque: escaped.EscapedPath(), RawQuery: query}).String()
}

// migrate brings the schema up to what this program knows.
func migrate(ctx context.Context, w *sql.DB) error {
	dbFiles, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("find migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, w, dbFiles)
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	has, known, err := p.GetVersions(ctx)
	if err == nil && has > known {
		err = errs.New(errs.Invalid, "the database has version %d, and this program knows up to %d: run the newer program that wrote it", has, known)
	}
	return err
}

// full marks err as errs.Exhausted if it is that the disk of dir has no space.
func full(dir string, err error) error {
	var engine *sqlite.Error
	const code = 0xff // The rest of a result is detail.
	switch {
	case errors.As(err, &engine) && engine.Code()&code == sqlite3.SQLITE_FULL, errors.Is(err, syscall.ENOSPC):
		return errs.New(errs.Exhausted, "the disk that holds %s is full, free some space there: %w", dir, err)
	}
	return err
}

// Close closes the database and frees its directory. Everything committed is on
// disk already.
func (db *DB) Close() error { return errors.Join(db.r.Close(), db.w.Close(), db.held.Close()) }

// Wake returns a channel that receives after a commit that touched one of the
// topics (a topic is the table's name: "jobs", "intents", ...). Several commits
// may collapse into one value.
func (db *DB) Wake(topics ...string) <-chan struct{} {
	ch := make(chan struct{}, 1)
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, topic := range topics {
		db.wakes[topic] = append(db.wakes[topic], ch)
	}
	return ch
}

func (db *DB) wake(topics map[string]bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for topic := range topics {
		for _, ch := range db.wakes[topic] {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
}

// Tx is a read-write transaction. It sees its own writes.
type Tx struct {
	reader
	tx      *sql.Tx
	block   uint64 // the block whose effects are being written; see AtBlock
	undoing bool
	mirror  bool
	touched map[string]bool
}

// Update runs fn in a transaction: all of fn's writes happen, or none does and
// its error comes back unchanged, but for a full disk, which is
// errs.Exhausted. Transactions run one after another.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	sqlTx, err := db.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", full(db.dir, err))
	}
	// After a commit there is nothing to roll back, nor when the engine has done
	// so already, which it does when the disk is full.
	defer func() { _ = sqlTx.Rollback() }()
	tx := &Tx{reader: reader{q: sqlTx}, tx: sqlTx, touched: map[string]bool{}}
	if err := fn(tx); err != nil {
		return full(db.dir, err)
	}
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", full(db.dir, err))
	}
	db.wake(tx.touched)
	return nil
}

// View runs fn on one consistent snapshot.
func (db *DB) View(ctx context.Context, fn func(*View) error) error {
	sqlTx, err := db.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin snapshot: %w", err)
	}
	defer func() { _ = sqlTx.Rollback() }() // read only: there is nothing to lose
	return fn(&View{reader{q: sqlTx, tails: db.tails}})
}

// View is a snapshot to read from; see DB.View.
type View struct{ reader }

// querier is what *sql.DB and *sql.Tx share.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// reader holds every read method; DB, Tx and View embed it.
type reader struct {
	q     querier
	tails *tails // nil in a transaction that writes
}

// changesMax bounds the change log: readers that fall further behind start over
// from the rows themselves.
const changesMax = 100_000

// Change says that the row with Key of the table Topic was written or deleted.
type Change struct {
	Seq   int64
	Topic string
	Key   string
}

// Changes returns up to limit entries of the change log after seq, oldest first.
func (r reader) Changes(ctx context.Context, seq int64, limit int) (out []Change, err error) {
	rows, err := r.q.QueryContext(ctx, "SELECT seq, topic, pk FROM changes WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read change log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c Change
		if err := rows.Scan(&c.Seq, &c.Topic, &c.Key); err != nil {
			return nil, fmt.Errorf("read change log: %w", err)
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// AtBlock runs fn so that every row it writes can be taken back by Rollback to
// a block before number.
func (tx *Tx) AtBlock(number uint64, fn func() error) error {
	if tx.mirror {
		return errs.New(errs.Internal, "BUG: AtBlock inside AtBlock")
	}
	tx.block, tx.mirror = number, true
	defer func() { tx.mirror = false }()
	return fn()
}

// Rollback takes back everything written AtBlock a block above number.
func (tx *Tx) Rollback(ctx context.Context, number uint64) error {
	rows, err := tx.q.QueryContext(ctx, "SELECT tbl, pk, doc FROM undo WHERE block > ? ORDER BY seq DESC", number)
	if err != nil {
		return fmt.Errorf("read undo log: %w", err)
	}
	type step struct {
		table, key string
		doc        sql.NullString
	}
	var steps []step
	for rows.Next() {
		var s step
		if err := rows.Scan(&s.table, &s.key, &s.doc); err != nil {
			return errors.Join(fmt.Errorf("read undo log: %w", err), rows.Close()) //nolint:sqlclosecheck // They are changed below, so they end here.
		}
		steps = append(steps, s)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read undo log: %w", err)
	}
	tx.undoing = true
	defer func() { tx.undoing = false }()
	for _, s := range steps {
		t, ok := tables()[s.table]
		if !ok {
			return errs.New(errs.Internal, "undo log names table %q, which is not there", s.table)
		}
		if err := t.restore(ctx, tx, s.key, s.doc); err != nil {
			return fmt.Errorf("undo %s %s: %w", s.table, s.key, err)
		}
	}
	_, err = tx.tx.ExecContext(ctx, "DELETE FROM undo WHERE block > ?", number)
	if err != nil {
		return fmt.Errorf("trim undo log: %w", err)
	}
	return nil
}

// Settle forgets how to undo blocks up to and including number: they are final.
func (tx *Tx) Settle(ctx context.Context, number uint64) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM undo WHERE block <= ?", number); err != nil {
		return fmt.Errorf("settle block %d: %w", number, err)
	}
	return nil
}

func (tx *Tx) logChange(ctx context.Context, topic, key string) error {
	tx.touched[topic] = true
	res, err := tx.tx.ExecContext(ctx, "INSERT INTO changes (topic, pk) VALUES (?, ?)", topic, key)
	if err != nil {
		return fmt.Errorf("log change of %s %s: %w", topic, key, err)
	}
	seq, err := res.LastInsertId()
	if err != nil {
		return fmt.Errorf("log change of %s %s: %w", topic, key, err)
	}
	if seq%1000 == 0 {
		if _, err := tx.tx.ExecContext(ctx, "DELETE FROM changes WHERE seq <= ?", seq-changesMax); err != nil {
			return fmt.Errorf("trim change log: %w", err)
		}
	}
	return nil
}

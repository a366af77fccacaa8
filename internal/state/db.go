// Package state is everything the node knows, in one database: an embedded one,
// or one of a PostgreSQL server. See engine.go for what differs between them.
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
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Config says where the node's rows are kept.
type Config struct {
	URL string `toml:"url"` // Database of a PostgreSQL server, postgres://USER@HOST/DATABASE?passfile=FILE; "" = the embedded one in data_dir.
}

// DefaultConfig is the embedded database.
func DefaultConfig() Config { return Config{} }

// Validate reports a URL that is none.
func (c Config) Validate() error {
	if c.URL == "" {
		return nil
	}
	return CheckURL(c.URL)
}

// Options says where state lives, and what this process is to it.
type Options struct {
	// Dir is the node's directory. It holds the embedded database, and it is this
	// process's alone as long as the database is open, wherever that is. "" is
	// allowed with a URL.
	Dir string
	// URL is that of a PostgreSQL database; "" is the embedded one.
	URL string
	// Replica says that another process owns the database: this one reads it and
	// commits to it, and neither changes its schema nor keeps others out.
	Replica bool
	// patient says that statements may take what they take, and transactions wait:
	// whole tables are read.
	patient bool
}

// DB is the node's database. Use Open. It is safe for concurrent use.
type DB struct {
	reader
	e    engine
	r    *sql.DB
	held *os.File // the lock of the directory; nil if there is none

	known wordSet
	full  atomic.Pointer[fullError] // Of the last transaction that wrote; nil if it had room.

	mu    sync.Mutex
	wakes map[string][]chan struct{} // by topic; guarded by mu
}

// Open opens the embedded database in dir; see OpenAs.
func Open(ctx context.Context, dir string) (*DB, error) { return OpenAs(ctx, Options{Dir: dir}) }

// OpenAs opens a database, creating and migrating it as needed. Only one process
// may own it: a second one gets errs.Conflict.
func OpenAs(ctx context.Context, o Options) (_ *DB, err error) {
	if o.URL == "" && o.Replica {
		return nil, errs.New(errs.Invalid, "an embedded database has one process; set [state] url to share one")
	}
	db := &DB{wakes: map[string][]chan struct{}{}}
	if o.Dir != "" || o.URL == "" {
		if db.held, err = hold(o.Dir); err != nil {
			return nil, err
		}
	}
	if o.URL == "" {
		db.e, db.r, err = openSQLite(ctx, o.Dir)
	} else {
		db.e, db.r, err = openPostgres(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, db.free())
	}
	db.reader = reader{q: pool(db.e, db.r), tails: &tails{}, vms: newDecodedVMs()}
	if !o.Replica {
		if err := errors.Join(db.fillSums(ctx), db.fillBounds(ctx)); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return db, nil
}

// hold makes the directory and takes it for this process.
func hold(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", full(filepath.Dir(dir), err))
	}
	held, err := lock(dir)
	if err != nil {
		return nil, full(dir, err)
	}
	return held, nil
}

// pool is how single queries reach the engine, each on its own.
func pool(e engine, r *sql.DB) *conn {
	q := e.reads(r)
	return &conn{e: e, q: q, renew: func(context.Context) (querier, error) {
		forget(r)
		return q, nil
	}}
}

// forget closes the connections that nobody uses: where one is lost, so may be
// the others.
func forget(r *sql.DB) {
	r.SetMaxIdleConns(0)
	r.SetMaxIdleConns(readersMax)
}

// Ready reports nil, or that the disk was full when a row was last to be written. It is not
// tried anew here: that is for who has something to write, as each block of the chain is.
func (db *DB) Ready(context.Context) error {
	if full := db.full.Load(); full != nil {
		return full
	}
	return nil
}

// Run keeps what the process holds of a shared database, and wakes services when
// another process commits. It ends with ctx, or with errs.Conflict when the
// database belongs to another process.
func (db *DB) Run(ctx context.Context) error {
	return db.e.run(ctx, func(topics []string) {
		if topics == nil {
			db.wakeAll()
			return
		}
		touched := map[string]bool{}
		for _, topic := range topics {
			touched[topic] = true
		}
		db.wake(touched)
	})
}

// Owned reports whether a process owns the database now: this one, or, of a
// replica, another.
func (db *DB) Owned(ctx context.Context) (bool, error) {
	held, err := db.e.owned(ctx, db.reader)
	if err != nil {
		return false, fmt.Errorf("look for who owns the database: %w", err)
	}
	return held, nil
}

// Close closes the database and frees its directory. Everything committed is on
// disk already.
func (db *DB) Close() error { return errors.Join(db.r.Close(), db.e.close(), db.free()) }

// free lets go of the directory.
func (db *DB) free() error {
	if db.held == nil {
		return nil
	}
	return db.held.Close()
}

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

// wakeAll wakes everybody: what was committed meanwhile is not known.
func (db *DB) wakeAll() {
	db.mu.Lock()
	topics := map[string]bool{}
	for topic := range db.wakes {
		topics[topic] = true
	}
	db.mu.Unlock()
	db.wake(topics)
}

// Tx is a read-write transaction. It sees its own writes.
type Tx struct {
	reader
	tx      *conn
	block   uint64 // the block whose effects are being written; see AtBlock
	undoing bool
	mirror  bool
	touched map[string]bool
	changes []Change // not in the change log yet
	known   *wordSet // of commits
	learned []word   // known after the commit
	woken   int      // messages; see Wake
	moved   []moved  // not in the sums yet
}

// Update runs fn in a transaction: all of fn's writes happen, or none does and
// its error comes back unchanged, but for a full disk, which is errs.Exhausted.
// Transactions run one after another, those of other processes too.
//
// When the connection to a server is lost while it commits, nobody knows what
// became of the transaction: that is errs.Unavailable, and it is not tried again
// here. Who does so must find out first, or write what may be written twice.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	wrote, err := db.update(ctx, fn)
	var full *fullError
	switch {
	case errors.As(err, &full):
		db.full.Store(full)
	case wrote:
		db.full.Store(nil)
	}
	return err
}

// update is Update, and reports whether rows were written.
func (db *DB) update(ctx context.Context, fn func(*Tx) error) (wrote bool, err error) {
	w, err := db.begin(ctx)
	if err != nil {
		return false, fmt.Errorf("begin transaction: %w", db.e.judge(err))
	}
	defer w.end()
	c := &conn{e: db.e, q: w.tx}
	tx := &Tx{reader: reader{q: c, vms: db.vms}, tx: c, touched: map[string]bool{}, known: &db.known}
	if err := fn(tx); err != nil {
		return false, db.e.judge(err)
	}
	if err := tx.writeSums(ctx); err != nil {
		return false, db.e.judge(err)
	}
	if err := tx.writeChanges(ctx); err != nil {
		return false, err
	}
	if err := w.commit(); err != nil {
		return false, fmt.Errorf("commit: %w", db.e.judge(err))
	}
	db.known.add(tx.learned)
	db.wake(tx.touched)
	return len(tx.touched) > 0, nil
}

// begin begins a transaction that writes. Nothing is done yet, so it is begun
// once more if the connection was lost.
func (db *DB) begin(ctx context.Context) (*writing, error) {
	w, err := db.e.begin(ctx)
	if err != nil && db.e.lost(err) && ctx.Err() == nil {
		w, err = db.e.begin(ctx)
	}
	return w, err
}

// View runs fn on one consistent snapshot.
func (db *DB) View(ctx context.Context, fn func(*View) error) error {
	c := &conn{e: db.e, pinned: true}
	var sqlTx *sql.Tx
	begin := func(ctx context.Context) (q querier, err error) {
		q, sqlTx, err = db.e.view(ctx, db.r)
		return q, err
	}
	c.renew = func(ctx context.Context) (querier, error) {
		_ = sqlTx.Rollback() // Its connection is lost.
		forget(db.r)
		return begin(ctx)
	}
	var err error
	if c.q, err = begin(ctx); err != nil && db.e.lost(err) && ctx.Err() == nil {
		forget(db.r)
		c.q, err = begin(ctx)
	}
	if err != nil {
		return fmt.Errorf("begin snapshot: %w", db.e.judge(err))
	}
	defer func() { _ = sqlTx.Rollback() }() // read only: there is nothing to lose
	return fn(&View{reader{q: c, tails: db.tails, vms: db.vms}})
}

// View is a snapshot to read from; see DB.View.
type View struct{ reader }

// reader holds every read method; DB, Tx and View embed it.
type reader struct {
	q     *conn
	tails *tails // nil in a transaction that writes
	vms   *decoded[VM]
}

// each runs fn with the scan function of every row that a query has.
func (r reader) each(ctx context.Context, query string, args []any, fn func(scan func(...any) error) error) error {
	q, free := r.q.hold(ctx, query)
	defer free()
	rows, err := r.q.rows(ctx, q, query, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return r.q.e.judge(rows.Err())
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
	err = r.each(ctx, "SELECT seq, topic, pk FROM changes WHERE seq > ? ORDER BY seq LIMIT ?", []any{seq, limit}, func(scan func(...any) error) error {
		var c Change
		if err := scan(&c.Seq, &c.Topic, &c.Key); err != nil {
			return err
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read change log: %w", err)
	}
	return out, nil
}

// Changes returns up to limit entries of the change log after seq, oldest first,
// those of this transaction too.
func (tx *Tx) Changes(ctx context.Context, seq int64, limit int) ([]Change, error) {
	if err := tx.writeChanges(ctx); err != nil {
		return nil, err
	}
	return tx.reader.Changes(ctx, seq, limit)
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
	type step struct {
		table, key string
		doc        sql.NullString
	}
	var steps []step
	err := tx.each(ctx, "SELECT tbl, pk, doc FROM undo WHERE block > ? ORDER BY seq DESC", []any{int64(number)}, func(scan func(...any) error) error {
		var s step
		if err := scan(&s.table, &s.key, &s.doc); err != nil {
			return err
		}
		steps = append(steps, s)
		return nil
	})
	if err != nil {
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
	_, err = tx.tx.ExecContext(ctx, "DELETE FROM undo WHERE block > ?", int64(number))
	if err != nil {
		return fmt.Errorf("trim undo log: %w", err)
	}
	return nil
}

// Settle forgets how to undo blocks up to and including number: they are final.
func (tx *Tx) Settle(ctx context.Context, number uint64) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM undo WHERE block <= ?", int64(number)); err != nil {
		return fmt.Errorf("settle block %d: %w", number, err)
	}
	return nil
}

// logChange notes that a row was written or deleted. The log is written with the
// commit, all of a transaction at once.
func (tx *Tx) logChange(topic, key string) {
	tx.touched[topic] = true
	tx.changes = append(tx.changes, Change{Topic: topic, Key: key})
}

// writeChanges writes what was noted, and tells other processes of it if the
// transaction commits. Transactions that write run one after another, so the
// next number is free, and numbers have no gaps.
func (tx *Tx) writeChanges(ctx context.Context) error {
	tell, words := tx.q.e.tell(tx.touched)
	for chunk := range chunks(tx.changes) {
		var values strings.Builder
		var args []any
		for i, c := range chunk {
			fmt.Fprintf(&values, ", (%d, ?, ?)", i+1)
			args = append(args, c.Topic, c.Key)
		}
		query := "INSERT INTO changes (seq, topic, pk) SELECT last.seq + new.column1, new.column2, new.column3" +
			" FROM (SELECT COALESCE(MAX(seq), 0) AS seq FROM changes) AS last, (VALUES " + values.String()[2:] + ") AS new RETURNING seq, " + tell
		var end int64
		err := tx.each(ctx, query, append(args, words...), func(scan func(...any) error) error {
			var seq int64
			var told any
			err := scan(&seq, &told)
			end = max(end, seq)
			return err
		})
		if err != nil {
			return fmt.Errorf("log change of %s %s: %w", chunk[0].Topic, chunk[0].Key, err)
		}
		if err := tx.trimChanges(ctx, end-int64(len(chunk)), end); err != nil {
			return err
		}
	}
	tx.changes = nil
	return nil
}

// trimChanges drops the oldest of the change log, now and then.
func (tx *Tx) trimChanges(ctx context.Context, from, to int64) error {
	const every = 1000
	if from/every == to/every {
		return nil
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM changes WHERE seq <= ?", to/every*every-changesMax); err != nil {
		return fmt.Errorf("trim change log: %w", err)
	}
	return nil
}

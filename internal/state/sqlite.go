package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // the embedded engine
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	fileName = "state.db"
	// readersMax bounds the connections that read. Each of the embedded engine
	// holds its page cache, each of a server is a process there.
	readersMax = 8
	// pragmas: WAL so readers never wait for the writer, FULL so that a commit
	// survives a power cut (an acceptance that was signed must not be forgotten),
	// a busy timeout longer than any transaction of ours. The log is written back every
	// 32 MiB and not every 4: a commit of some hundred messages has about as much, and
	// the same pages of indexes are in each, which made three times the writing.
	pragmas = "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)" +
		"&_pragma=foreign_keys(1)&_pragma=temp_store(2)&_pragma=cache_size(-8192)&_pragma=wal_autocheckpoint(8192)"
)

// embedded is SQLite, in a file that this process has for itself.
type embedded struct {
	dir string
	w   *sql.DB    // nil if it is only read
	all statements // Of w.
	// read are those of the connections that read; a server's driver keeps its own.
	read statements
}

// openSQLite opens the database in dir, which this process has locked.
func openSQLite(ctx context.Context, dir string) (engine, *sql.DB, error) {
	path := filepath.Join(dir, fileName)
	w, err := sql.Open("sqlite", source(path, "_txlock=immediate&"+pragmas))
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	e := &embedded{dir: dir, w: w, all: statements{db: w}}
	if err := migrate(ctx, e, w); err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	r, err := openFile(dir)
	if err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	return e, r, nil
}

// openFile opens the database in dir to read from it.
func openFile(dir string) (*sql.DB, error) {
	path := filepath.Join(dir, fileName)
	r, err := sql.Open("sqlite", source(path, "mode=ro&"+pragmas))
	if err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	r.SetMaxOpenConns(readersMax)
	r.SetMaxIdleConns(readersMax)
	return r, nil
}

// source names a database file for the engine, whatever its path has in it.
func source(path, query string) string {
	escaped := &url.URL{Path: path}
	return (&url.URL{Scheme: "file", Opaque: escaped.EscapedPath(), RawQuery: query}).String()
}

func (e *embedded) dialect() (goose.Dialect, string) { return goose.DialectSQLite3, "sqlite" }

func (e *embedded) where() string { return filepath.Join(e.dir, fileName) }

// bind keeps statements compiled: with a bare argument as its limit the engine compiles one
// anew for each value, as it may plan by it.
func (e *embedded) bind(query string) string {
	return strings.ReplaceAll(query, "LIMIT ?", "LIMIT 0 + ?")
}

// concat: two blobs together are a text to this engine, if nobody says else.
func (e *embedded) concat(a, b string) string { return "CAST(" + a + " || " + b + " AS BLOB)" }

func (e *embedded) judge(err error) error { return full(e.dir, err) }

func (e *embedded) lost(error) bool { return false }

func (e *embedded) reads(r *sql.DB) querier {
	e.read.db = r
	return compiledDB{r, &e.read}
}

func (e *embedded) view(ctx context.Context, r *sql.DB) (querier, *sql.Tx, error) {
	if err := e.read.compile(ctx); err != nil {
		return nil, nil, err
	}
	tx, err := r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	return e.read.within(tx), tx, nil
}

func (e *embedded) begin(ctx context.Context) (*writing, error) {
	if err := e.all.compile(ctx); err != nil {
		return nil, err
	}
	tx, err := e.w.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	// After a commit there is nothing to roll back, nor when the engine has done
	// so already, which it does when the disk is full.
	return &writing{tx: e.all.within(tx), commit: tx.Commit, end: func() { _ = tx.Rollback() }}, nil
}

func (e *embedded) tell(map[string]bool) (string, []any) { return "0", nil }

// run has nothing to do: no other process commits, and the lock of the directory
// cannot be lost.
func (e *embedded) run(ctx context.Context, _ func([]string)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// owned: nobody else can have opened it.
func (e *embedded) owned(context.Context, reader) (bool, error) { return true, nil }

func (e *embedded) close() error {
	if e.w == nil {
		return nil
	}
	return e.w.Close()
}

// LimitPages gives the embedded database room for n pages, or for those that it has if they
// are more, as a disk of that size would: so tests fill the disk of one node of many.
func (db *DB) LimitPages(ctx context.Context, n uint32) error {
	e, ok := db.e.(*embedded)
	if !ok || e.w == nil {
		return errs.New(errs.Invalid, "%s is no embedded database that is written to", db.e.where())
	}
	if _, err := e.w.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
		return fmt.Errorf("limit pages: %w", err)
	}
	return nil
}

// tables reads the schema.
func (e *embedded) tables(ctx context.Context, q querier) ([]tableInfo, error) {
	r := reader{q: &conn{e: e, q: q}}
	return describe(ctx, r,
		`SELECT m.name, c.name, lower(c.type), c."notnull" <> 0 OR c.pk > 0, c.pk FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' ORDER BY m.name, c.cid`,
		`SELECT m.name, i.name, c.name FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) c
			WHERE m.type = 'table' AND i.origin = 'c' ORDER BY m.name, i.name, c.seqno`)
}

// full marks err as errs.Exhausted if it is that the disk of dir has no space.
func full(dir string, err error) error {
	var engine *sqlite.Error
	const code = 0xff // The rest of a result is detail.
	switch {
	case err == nil, errors.Is(err, errs.Exhausted):
		return err
	case errors.As(err, &engine) && engine.Code()&code == sqlite3.SQLITE_FULL, errors.Is(err, syscall.ENOSPC):
		return noRoom(dir, err)
	}
	return err
}

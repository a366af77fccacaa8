package state

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/pressly/goose/v3"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// engine is what differs between the databases that hold the schema. All else
// in this package is written once, for both: queries with ? for arguments, on
// tables that have the same columns and indexes, texts in the order of their
// bytes.
type engine interface {
	// dialect is how goose speaks to it, and the folder of its migrations.
	dialect() (goose.Dialect, string)
	// bind is a query with the engine's own marks for arguments.
	bind(query string) string
	// concat is the expression for one binary value after another.
	concat(a, b string) string
	// judge gives err its kind, if it is the engine's.
	judge(err error) error
	// lost reports whether err is that a connection is gone, so that the same on
	// another one may succeed.
	lost(err error) bool
	// begin waits for the transaction to be the only one that writes, and refuses
	// when this process may write no more.
	begin(ctx context.Context) (*writing, error)
	// reads asks the connections that read, each query on its own. It is called once.
	reads(r *sql.DB) querier
	// view begins a transaction that reads, and sees one state.
	view(ctx context.Context, r *sql.DB) (querier, *sql.Tx, error)
	// tell is an expression, and its arguments, that wakes the other processes if
	// the transaction commits. It rides on a statement: each is a way to a server.
	tell(topics map[string]bool) (expression string, args []any)
	// run keeps what the process holds of the database, and calls wake for what
	// other processes commit: with nil for all topics. It ends with ctx, or when
	// the database belongs to another process.
	run(ctx context.Context, wake func(topics []string)) error
	// owned reports whether a process owns the database now.
	owned(ctx context.Context, r reader) (bool, error)
	// tables is the schema as the database has it, but for what is goose's.
	tables(ctx context.Context, q querier) ([]tableInfo, error)
	// where names the database for people, without secrets.
	where() string
	close() error
}

// querier is what *sql.DB and *sql.Tx share.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// writing is a transaction that writes, the only one.
type writing struct {
	tx     querier
	commit func() error
	end    func() // Rolls back what was not committed.
}

// conn passes queries to the engine.
type conn struct {
	e engine
	q querier
	// renew gives another connection for one that was lost. It is nil when what
	// was done on the lost one is lost as well.
	renew func(ctx context.Context) (querier, error)
	// pinned: what the first query saw must be seen by the next, so only the first
	// can be asked again.
	pinned bool
}

// QueryContext runs a query that gives rows. It is asked once more, on a new
// connection, if the first was lost and nothing of it was read.
func (c *conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return c.rows(ctx, c.q, query, args)
}

// rows is QueryContext, by c.q or by what it gave out to hold.
func (c *conn) rows(ctx context.Context, q querier, query string, args []any) (*sql.Rows, error) {
	if err := checkTexts(args); err != nil {
		return nil, err
	}
	query = c.e.bind(query)
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil && c.renew != nil && c.e.lost(err) && ctx.Err() == nil {
		var q querier
		if q, err = c.renew(ctx); err == nil {
			if c.pinned {
				c.q = q
			}
			rows, err = q.QueryContext(ctx, query, args...)
		}
	}
	if c.pinned {
		c.renew = nil
	}
	return rows, c.e.judge(err)
}

// holder is a querier that has some queries compiled, each for one reader of rows
// at a time: until free is called others have it compiled for them anew.
type holder interface {
	hold(ctx context.Context, query string) (q querier, free func())
}

func (c *conn) hold(ctx context.Context, query string) (q querier, free func()) {
	if h, ok := c.q.(holder); ok {
		return h.hold(ctx, c.e.bind(query))
	}
	return c.q, func() {}
}

// row is the one row of a query, or why there is none.
type row struct {
	rows *sql.Rows
	free func()
	e    engine
	err  error
}

// QueryRowContext runs a query that gives one row at most.
func (c *conn) QueryRowContext(ctx context.Context, query string, args ...any) row {
	q, free := c.hold(ctx, query)
	rows, err := c.rows(ctx, q, query, args) //nolint:rowserrcheck // Scan does.
	return row{rows: rows, free: free, e: c.e, err: err}
}

// Scan reads the row, or returns sql.ErrNoRows.
func (r row) Scan(into ...any) error {
	defer r.free()
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return r.e.judge(err)
		}
		return sql.ErrNoRows
	}
	if err := r.rows.Scan(into...); err != nil {
		return r.e.judge(err)
	}
	return r.e.judge(r.rows.Close())
}

// ExecContext runs a statement that gives no rows.
func (c *conn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := checkTexts(args); err != nil {
		return nil, err
	}
	res, err := c.q.ExecContext(ctx, c.e.bind(query), args...)
	return res, c.e.judge(err)
}

// checkTexts refuses texts that not every engine can hold, so that what one took
// can be carried to the other.
func checkTexts(args []any) error {
	for _, arg := range args {
		text, ok := arg.(string)
		if null, isNull := arg.(sql.NullString); isNull {
			text, ok = null.String, true
		}
		if ok && (!utf8.ValidString(text) || strings.ContainsRune(text, 0)) {
			return errs.New(errs.Invalid, "the text %q cannot be kept or looked for: it has a byte that is zero or no UTF-8", shorten(text))
		}
	}
	return nil
}

// shorten is the beginning of a text, for an error.
func shorten(text string) string {
	const most = 80
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// migrator runs the migrations that this program knows.
func migrator(e engine, w *sql.DB) (*goose.Provider, error) {
	dialect, folder := e.dialect()
	files, err := fs.Sub(migrations, "migrations/"+folder)
	if err != nil {
		return nil, fmt.Errorf("find migrations: %w", err)
	}
	p, err := goose.NewProvider(dialect, w, files)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return p, nil
}

// migrate brings the schema up to what this program knows.
func migrate(ctx context.Context, e engine, w *sql.DB) error {
	p, err := migrator(e, w)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate %s: %w", e.where(), e.judge(err))
	}
	has, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", e.where(), e.judge(err))
	}
	return checkVersion(e, has, known)
}

// checkVersion refuses a schema that this program does not know.
func checkVersion(e engine, has, known int64) error {
	switch {
	case has > known:
		return errs.New(errs.Invalid, "%s has version %d, and this program knows up to %d: run the newer program that wrote it", e.where(), has, known)
	case has < known:
		return errs.New(errs.Invalid, "%s has version %d, and this program wants %d: start its node with this program once", e.where(), has, known)
	}
	return nil
}

// known is the newest version of the schema that this program has.
func known(e engine) (int64, error) {
	_, folder := e.dialect()
	names, err := fs.Glob(migrations, "migrations/"+folder+"/*.sql")
	if err != nil || len(names) == 0 {
		return 0, errs.New(errs.Internal, "BUG: no migrations in %s: %v", folder, err)
	}
	return goose.NumericComponent(names[len(names)-1])
}

// requireVersion refuses a database whose schema is not this program's, without
// changing it.
func requireVersion(ctx context.Context, e engine, q querier) error {
	want, err := known(e)
	if err != nil {
		return err
	}
	var has int64
	c := &conn{e: e, q: q}
	// As goose has it: a version counts unless it was taken back after.
	err = c.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&has)
	if err != nil {
		return fmt.Errorf("read version of %s: %w", e.where(), err)
	}
	return checkVersion(e, has, want)
}

// fullError is a disk that is full, as opposed to whatever else is errs.Exhausted.
type fullError struct{ error }

func (e *fullError) Unwrap() error { return e.error }

// located is an error of an engine, whose place is named by %s in the text. Strangers are not
// told which it is, nor the cause, which may say so too.
func located(kind errs.Kind, text, where string, err error) error {
	return errs.Placed(errs.New(kind, text+": %w", where, err), fmt.Sprintf(text, "the database"))
}

// noRoom is the error of an engine whose disk is full.
func noRoom(where string, err error) error {
	return &fullError{located(errs.Exhausted, "the disk that holds %s is full, free some space there", where, err)}
}

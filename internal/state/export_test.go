package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
)

// ServerVar names the variable of the environment that holds the URL of a server:
// tests then use databases of it in place of embedded ones.
const ServerVar = "ALEPH_STATE_TEST_SERVER"

// OnServer reports whether tests use a server.
func OnServer() bool { return os.Getenv(ServerVar) != "" }

var made struct {
	sync.Mutex
	names map[string]bool
}

// OptionsOf are those of the database that stands for a directory: the one in
// it, or one of the server with a name made from it.
func OptionsOf(tb testing.TB, dir string) Options {
	tb.Helper()
	if !OnServer() {
		return Options{Dir: dir}
	}
	u, err := url.Parse(os.Getenv(ServerVar))
	if err != nil {
		tb.Fatal(err)
	}
	name := fmt.Sprintf("t%x", sha256.Sum256([]byte(dir)))[:24]
	made.Lock()
	defer made.Unlock()
	if !made.names[name] {
		if err := statetest.Create(tb.Context(), u.String(), name); err != nil {
			tb.Fatal(err)
		}
		if made.names == nil {
			made.names = map[string]bool{}
		}
		made.names[name] = true
	}
	u.Path = "/" + name
	return Options{URL: u.String()}
}

// OpenFor opens the database that stands for a directory.
func OpenFor(tb testing.TB, dir string) (*DB, error) {
	tb.Helper()
	return OpenAs(tb.Context(), OptionsOf(tb, dir))
}

// SumMax bounds the messages of a row of sums.
const SumMax = sumMax

// UntoldMax bounds the messages that nobody was told of.
const UntoldMax = untoldMax

// ChangesMax bounds the change log.
const ChangesMax = changesMax

// Exec runs a statement as the writer.
func (db *DB) Exec(ctx context.Context, query string, args ...any) error {
	_, err := db.writer().ExecContext(ctx, db.e.bind(query), args...)
	return err
}

func (db *DB) writer() *sql.DB {
	if e, ok := db.e.(*embedded); ok {
		return e.w
	}
	return db.e.(*server).w
}

// Plan returns how the engine would run a query, a step a line.
func (db *DB) Plan(ctx context.Context, query string) (out string, err error) {
	if _, ok := db.e.(*server); ok {
		// So few rows are read whole, unless it may not.
		if err := db.Exec(ctx, "SET enable_seqscan = off"); err != nil {
			return "", err
		}
		rows, err := db.writer().QueryContext(ctx, "EXPLAIN "+query)
		return lines(rows, err, 1)
	}
	rows, err := db.writer().QueryContext(ctx, "EXPLAIN QUERY PLAN "+query)
	return lines(rows, err, 4)
}

// lines joins the last column of rows.
func lines(rows *sql.Rows, err error, columns int) (string, error) {
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var line string
		into := make([]any, columns)
		for i := range into {
			into[i] = new(any)
		}
		into[columns-1] = &line
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		b.WriteString(line + "\n")
	}
	return b.String(), rows.Err()
}

// Migrate moves the schema to a version, up or down.
func (db *DB) Migrate(ctx context.Context, version int64) error {
	p, err := migrator(db.e, db.writer())
	if err != nil {
		return err
	}
	if has, err := p.GetDBVersion(ctx); err != nil || has < version {
		_, errUp := p.UpTo(ctx, version)
		return errors.Join(err, errUp)
	}
	_, err = p.DownTo(ctx, version)
	return err
}

// Schema is the schema as the database has it, a line for each column, key and
// index.
func (db *DB) Schema(ctx context.Context) (string, error) {
	found, err := db.e.tables(ctx, db.writer())
	var b strings.Builder
	for _, t := range found {
		for _, c := range t.columns {
			fmt.Fprintf(&b, "%s.%s %s, required: %v\n", t.name, c.name, c.kind, c.notNull)
		}
		fmt.Fprintf(&b, "%s key %v\n", t.name, t.key)
		for _, index := range t.indexes {
			fmt.Fprintf(&b, "%s index %s\n", t.name, index)
		}
	}
	return b.String(), err
}

// NewestVersion is the newest version of the schema.
func (db *DB) NewestVersion() (int64, error) { return known(db.e) }

// Mirrored returns the names of the tables whose rows may be effects of a
// block.
func Mirrored() (names []string) {
	for name := range tables() {
		names = append(names, name)
	}
	return names
}

// Dump returns every row of the tables, all columns, in the order of keys.
func (r reader) Dump(ctx context.Context, tables ...string) (string, error) {
	var b strings.Builder
	for _, name := range tables {
		if err := r.dump(ctx, &b, name); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func (r reader) dump(ctx context.Context, b *strings.Builder, name string) error {
	rows, err := r.q.QueryContext(ctx, "SELECT * FROM "+name+" ORDER BY pk")
	if err != nil {
		return err
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, into := make([]any, len(cols)), make([]any, len(cols))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		fmt.Fprintf(b, "%s", name)
		for i, c := range cols {
			fmt.Fprintf(b, " %s=%v", c, values[i])
		}
		b.WriteString("\n")
	}
	return rows.Err()
}

// DropPinned ends the connection that holds the owner's lock.
func (db *DB) DropPinned(ctx context.Context) error {
	e := db.e.(*server)
	pid := e.pinned.PgConn().PID()
	_, err := db.r.ExecContext(ctx, "SELECT pg_terminate_backend($1, 10000)", pid)
	return err
}

// Waiting is how many processes of the server wait for a lock in the database.
func (db *DB) Waiting(ctx context.Context) (n int, err error) {
	err = db.r.QueryRowContext(ctx, "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&n)
	return n, err
}

// BlockSize is how many documents are a block of a catalogue.
const BlockSize = blockSize

// FillCatalogue adds documents to the catalogue of messages.
func (tx *Tx) FillCatalogue(ctx context.Context, n int) error {
	docs := make([]document, n)
	for i := range docs {
		docs[i] = document{int64(i), []term{{1, fmt.Sprint(i % 5)}, {2, fmt.Sprint(i)[:1]}}}
	}
	_, err := catalogue{"message"}.add(ctx, tx, docs)
	return err
}

// DumpAll returns every row of every table but the fence.
func (db *DB) DumpAll(ctx context.Context) (string, error) {
	all, err := db.e.tables(ctx, db.r)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, t := range all {
		if t.name == "fence" {
			continue
		}
		err := db.each(ctx, t.ordered(), nil, func(scan func(...any) error) error {
			row, err := t.values(scan)
			fmt.Fprintf(&b, "%s %v\n", t.name, row)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// Collations counts the columns of texts by the order that they have.
func (db *DB) Collations(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	err := db.each(ctx, `SELECT c.collname FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid JOIN pg_collation c ON c.oid = a.attcollation
		WHERE t.relkind = 'r' AND a.attnum > 0 AND t.relnamespace = 'public'::regnamespace AND t.relname NOT LIKE 'goose%'`, nil,
		func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			out[name]++
			return err
		})
	return out, err
}

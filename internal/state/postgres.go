package state

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// versionMin is the oldest server that the tests have seen.
	versionMin = 150000
	// connectMax bounds how long a connection may take to be made.
	connectMax = 10 * time.Second
	// statementMax bounds a statement, and the wait for other writers.
	statementMax = time.Minute
	// idleMax bounds how long a transaction that writes may do nothing: all others
	// wait for it.
	idleMax = 5 * time.Minute
	// takeMax bounds the wait for a database that another process owns: one that
	// has just ended may still be known to the server.
	takeMax = 3 * time.Second
	// commitMax bounds the wait for the answer to a commit.
	commitMax = 2 * statementMax
	// keepalive: a server that forgets a dead client in less than a minute frees
	// what it held.
	keepaliveIdle     = 15 * time.Second
	keepaliveInterval = 5 * time.Second
	keepaliveCount    = 3

	// lockClass and lockOwner are the advisory lock of who owns a database. The
	// class is "alep" in ASCII, so that it does not meet locks of other programs.
	lockClass = 0x616c6570
	lockOwner = 1

	// channel is where commits are told to other processes.
	channel = "aleph_state"
	// Codes of errors; the class is the beginning of those of a connection.
	classConnection = "08"
	codeLockTimeout = "55P03"
)

// server is PostgreSQL. Processes that share a database wait for each other at
// the row of the table fence: who writes locks it first, so transactions that
// write run one after another. The row's number is raised by each new owner, so
// that an owner that was cut off cannot write any more once there is another,
// whatever it believes.
type server struct {
	cfg *pgx.ConnConfig
	id  string // of this process, in what it tells others
	w   *sql.DB

	replica bool
	epoch   int64 // the fence's number while this process owns the database

	mu     sync.Mutex
	pinned *pgx.Conn // holds the owner's lock and listens; guarded by mu, nil while it is lost
	stolen error     // why this process writes no more; guarded by mu
}

// openPostgres opens the database that a URL names.
func openPostgres(ctx context.Context, o Options) (engine, *sql.DB, error) {
	cfg, err := parseURL(o.URL)
	if err != nil {
		return nil, nil, err
	}
	idle := idleMax
	if o.patient {
		idle, cfg.RuntimeParams["statement_timeout"] = 0, "0"
	}
	e := &server{cfg: cfg, id: rand.Text(), replica: o.Replica}
	if err := e.own(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", e.where(), e.judge(err)), e.close()) //nolint:contextcheck // It closes though ctx may have ended.
	}
	e.w = e.pool(1, map[string]string{"idle_in_transaction_session_timeout": millis(idle)})
	return e, e.pool(readersMax, nil), nil
}

// CheckURL reports what is wrong with the URL of a database, and says nothing of
// what is secret in it.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

func parseURL(rawURL string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		// The cause may quote a part of the password.
		return nil, errs.New(errs.Invalid, "url is no URL: what is special in a name or a password is written as %%XX")
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return nil, errs.New(errs.Invalid, "url is of scheme %q, want postgres://USER@HOST/DATABASE", u.Scheme)
	}
	cfg, err := pgx.ParseConfig(rawURL)
	if err != nil {
		// It begins with the URL, of which only we know what is secret.
		_, cause, _ := strings.Cut(err.Error(), "`: ")
		return nil, errs.New(errs.Invalid, "url %s: %s", MaskURL(rawURL), cause)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectMax
	}
	if cfg.ValidateConnect == nil { // A server that follows another takes no writes.
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveCount}}
	cfg.DialFunc = dialer.DialContext
	for name, value := range map[string]string{
		"application_name":        "aleph-node",
		"client_encoding":         "UTF8",
		"statement_timeout":       millis(statementMax),
		"tcp_keepalives_idle":     seconds(keepaliveIdle),
		"tcp_keepalives_interval": seconds(keepaliveInterval),
		"tcp_keepalives_count":    strconv.Itoa(keepaliveCount),
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	// Promises rest on commits, so these are not for the URL to say.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed"
	return cfg, nil
}

// MaskURL is the URL of a database without its password.
func MaskURL(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "***"
	}
	query := u.Query()
	if query.Has("password") {
		query.Set("password", "***")
		u.RawQuery = query.Encode()
	}
	if _, set := u.User.Password(); set {
		u.User = url.User(u.User.Username())
		return strings.Replace(u.String(), "@", ":***@", 1)
	}
	return u.String()
}

func millis(d time.Duration) string  { return strconv.FormatInt(d.Milliseconds(), 10) }
func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// pool opens up to most connections, with settings beside those of the URL.
func (e *server) pool(most int, settings map[string]string) *sql.DB {
	db := stdlib.OpenDB(*e.with(settings))
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db
}

func (e *server) with(settings map[string]string) *pgx.ConnConfig {
	cfg := e.cfg.Copy()
	maps.Copy(cfg.RuntimeParams, settings)
	return cfg
}

// own makes the connection that this process keeps, and takes the database.
func (e *server) own(ctx context.Context) (err error) {
	if e.pinned, err = e.pin(ctx); err != nil {
		return err
	}
	if err := checkServer(ctx, e.pinned); err != nil {
		return err
	}
	w := e.pool(1, map[string]string{"statement_timeout": "0"}) // A migration takes what it takes.
	defer w.Close()
	if e.replica {
		return requireVersion(ctx, e, w)
	}
	if err := e.takeFirst(ctx, e.pinned); err != nil {
		return err
	}
	if err := migrate(ctx, e, w); err != nil {
		return err
	}
	// Who owned it before may be in the middle of a transaction, and this waits for
	// it: once the number is raised, no other can follow.
	return e.pinned.QueryRow(ctx, "UPDATE fence SET epoch = epoch + 1 RETURNING epoch").Scan(&e.epoch)
}

// pin makes a connection that is not of a pool.
func (e *server) pin(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, e.with(map[string]string{"idle_session_timeout": "0"}))
}

// takeFirst takes the owner's lock, or fails if another process has it.
func (e *server) takeFirst(ctx context.Context, c *pgx.Conn) error {
	if _, err := c.Exec(ctx, "SET lock_timeout = "+millis(takeMax)); err != nil {
		return err
	}
	_, err := c.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", lockClass, lockOwner)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeLockTimeout {
		return errs.New(errs.Conflict, "another process owns the database; stop it, or set another [state] url")
	}
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, "SET lock_timeout = 0")
	return err
}

// take tries to take the owner's lock, which ends with its connection.
func (e *server) take(ctx context.Context, c *pgx.Conn) (taken bool, err error) {
	err = c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", lockClass, lockOwner).Scan(&taken)
	return taken, err
}

// checkServer refuses a server that cannot hold what the embedded engine can.
func checkServer(ctx context.Context, c *pgx.Conn) error {
	var version int
	var text, encoding string
	err := c.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding')").
		Scan(&version, &text, &encoding)
	switch {
	case err != nil:
		return err
	case version < versionMin:
		return errs.New(errs.Invalid, "the server is PostgreSQL %s, want %d or newer", text, versionMin/10000)
	case encoding != "UTF8":
		return errs.New(errs.Invalid, "the database has the encoding %s, want UTF8: make it with ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

func (e *server) dialect() (goose.Dialect, string) { return goose.DialectPostgres, "postgres" }

func (e *server) where() string {
	return fmt.Sprintf("database %s at %s", e.cfg.Database, net.JoinHostPort(e.cfg.Host, strconv.Itoa(int(e.cfg.Port))))
}

// bound are queries with the marks of PostgreSQL, by themselves with ours. There
// are no more than the source has, times the lengths of lists, which are bounded.
var bound sync.Map //nolint:gochecknoglobals // A cache of a pure function.

func (e *server) bind(query string) string {
	if known, ok := bound.Load(query); ok {
		return known.(string) //nolint:errcheck // Only texts are stored.
	}
	var b strings.Builder
	n, quoted := 0, false
	for _, r := range query {
		if r == '\'' {
			quoted = !quoted
		}
		if r != '?' || quoted {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	bound.Store(query, b.String())
	return b.String()
}

func (e *server) concat(a, b string) string { return a + " || " + b }

func (e *server) reads(r *sql.DB) querier { return r }

// view: in any weaker isolation the server would move on with each query.
func (e *server) view(ctx context.Context, r *sql.DB) (querier, *sql.Tx, error) {
	tx, err := r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	return tx, tx, err
}

// judge gives an error of the server its kind.
func (e *server) judge(err error) error {
	var kind errs.Kind
	if err == nil || errors.As(err, &kind) {
		return err
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if e.lost(err) {
			return located(errs.Unavailable, "the connection to %s is lost or cannot be made", e.where(), err)
		}
		return err
	}
	switch pg.Code {
	case "53100":
		return noRoom(e.where(), err)
	case "22021", "22P05":
		return errs.New(errs.Invalid, "a text cannot be kept: it has a byte that is zero or no UTF-8: %w", err)
	case "40001", "40P01", codeLockTimeout, "57014":
		return located(errs.Unavailable, "%s is too busy", e.where(), err)
	case "25006":
		return located(errs.Unavailable, "%s is read-only, so it follows another server: set [state] url to that one", e.where(), err)
	case "3D000":
		return located(errs.NotFound, "%s is not there: make it with CREATE DATABASE, as docs/operator/state.md says", e.where(), err)
	case "42P01":
		return located(errs.Internal, "%s lacks a table", e.where(), err)
	}
	switch {
	case e.lost(err), strings.HasPrefix(pg.Code, "53"):
		return located(errs.Unavailable, "%s takes no connection or has lost one", e.where(), err)
	case strings.HasPrefix(pg.Code, "28"), pg.Code == "42501":
		return errs.Placed(errs.New(errs.Denied, "%s refuses the user %s: %w", e.where(), e.cfg.User, err), "the database refuses its user")
	}
	return err
}

// lost reports whether the connection is gone or was never made.
func (e *server) lost(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// Shut down, crashed, and not up yet.
		return strings.HasPrefix(pg.Code, classConnection) || slices.Contains([]string{"57P01", "57P02", "57P03"}, pg.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	for _, gone := range []error{driver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, pgconn.ErrConnClosed} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return errors.As(err, &connect) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded)
}

// begin locks the fence. The lock and the number are one statement: no owner can
// come between them.
func (e *server) begin(ctx context.Context) (_ *writing, err error) {
	if err := e.mayWrite(); err != nil {
		return nil, err
	}
	c, err := e.w.Conn(ctx)
	if err != nil {
		return nil, err
	}
	// The transaction does not end with ctx: a commit that is cut off is one of
	// which nobody knows whether it happened.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &writing{}
	var tx *sql.Tx
	w.end = func() {
		if tx != nil {
			_ = tx.Rollback() // Nothing is left of it, or its connection is lost and nothing will be.
		}
		cancel()
		_ = c.Close()
	}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	if tx, err = c.BeginTx(inner, nil); err != nil {
		return nil, err
	}
	w.tx = tx
	var epoch int64
	if err := tx.QueryRowContext(ctx, "SELECT epoch FROM fence WHERE pk = 'owner' FOR NO KEY UPDATE").Scan(&epoch); err != nil {
		return nil, err
	}
	if !e.replica && epoch != e.epoch {
		return nil, e.steal(epoch)
	}
	w.commit = func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		late := time.AfterFunc(commitMax, cancel)
		defer late.Stop()
		return e.outcome(tx.Commit())
	}
	return w, nil
}

// outcome tells what a commit's error means: an answer of the server is that
// nothing happened, and no answer can mean either.
func (e *server) outcome(err error) error {
	var pg *pgconn.PgError
	if err == nil || errors.Is(err, pgx.ErrTxCommitRollback) || errors.As(err, &pg) && !e.lost(err) {
		return err
	}
	return located(errs.Unavailable, "the connection to %s was lost while it committed, so it is not known whether it did: read before writing again", e.where(), err)
}

// mayWrite refuses when this process does not hold the database.
func (e *server) mayWrite() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stolen != nil:
		return e.stolen
	case e.pinned == nil && !e.replica:
		return errs.Placed(errs.New(errs.Unavailable, "the connection that holds %s is lost and is being made again", e.where()),
			"the connection that holds the database is lost and is being made again")
	}
	return nil
}

// steal notes that another process has become the owner.
func (e *server) steal(epoch int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stolen = errs.Placed(errs.New(errs.Conflict, "another process has taken %s (its owner is number %d, this was %d); stop one of them", e.where(), epoch, e.epoch),
		"another process has taken the database")
	return e.stolen
}

// tell says with the commit which topics it touched; the same said twice is said
// once. Who said it is in it, as its own listener hears it too.
func (e *server) tell(topics map[string]bool) (string, []any) {
	words := append([]string{e.id}, slices.Sorted(maps.Keys(topics))...)
	return "pg_notify(?, ?)", []any{channel, strings.Join(words, " ")}
}

// run listens, and makes the pinned connection anew when it is lost.
func (e *server) run(ctx context.Context, wake func([]string)) error {
	const first, most = 50 * time.Millisecond, 5 * time.Second
	pause := first
	for {
		c, err := e.keep(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case e.over() != nil:
			return e.over()
		case err != nil:
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, most)
			continue
		}
		pause = first
		if e.listen(ctx, c, wake); ctx.Err() == nil {
			e.drop(ctx, c)
		}
	}
}

// keep returns the pinned connection, and takes the database again if it is a
// new one.
func (e *server) keep(ctx context.Context) (_ *pgx.Conn, err error) {
	e.mu.Lock()
	c, over := e.pinned, e.stolen
	e.mu.Unlock()
	if c != nil || over != nil {
		return c, over
	}
	if c, err = e.pin(ctx); err != nil {
		return nil, err
	}
	if err := e.retake(ctx, c); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stolen != nil { // Closed meanwhile.
		return nil, errors.Join(e.stolen, c.Close(ctx))
	}
	e.pinned = c
	return c, nil
}

// over is why this process writes no more, if it does not.
func (e *server) over() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stolen
}

// retake takes the database again, if it had no other owner meanwhile. A lock
// that is held may be that of this process's old connection, of whose end the
// server does not know yet.
func (e *server) retake(ctx context.Context, c *pgx.Conn) error {
	if e.replica {
		return nil
	}
	taken, err := e.take(ctx, c)
	if err != nil {
		return err
	}
	var epoch int64
	if err := c.QueryRow(ctx, "SELECT epoch FROM fence WHERE pk = 'owner'").Scan(&epoch); err != nil {
		return err
	}
	switch {
	case epoch != e.epoch:
		return e.steal(epoch)
	case !taken:
		return errs.New(errs.Unavailable, "%s is held by a connection that the server has not given up yet", e.where())
	}
	return nil
}

// owned looks for the owner's lock, whoever holds it.
func (e *server) owned(ctx context.Context, r reader) (held bool, err error) {
	err = r.q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database()"+
		" AND l.locktype = 'advisory' AND l.classid = ? AND l.objid = ? AND l.objsubid = 2 AND l.granted)", lockClass, lockOwner).Scan(&held)
	return held, err
}

// listen wakes services until the connection is lost. What was told before it
// listened is not known, so everybody is woken once.
func (e *server) listen(ctx context.Context, c *pgx.Conn, wake func([]string)) {
	if _, err := c.Exec(ctx, "LISTEN "+channel); err != nil {
		return
	}
	wake(nil)
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return
		}
		if words := strings.Fields(n.Payload); len(words) > 1 && words[0] != e.id {
			wake(words[1:])
		}
	}
}

// drop gives up the pinned connection, and with it the right to write.
func (e *server) drop(ctx context.Context, c *pgx.Conn) {
	e.mu.Lock()
	e.pinned = nil
	e.mu.Unlock()
	_ = c.Close(ctx) // It is lost.
}

func (e *server) close() error {
	e.mu.Lock()
	c := e.pinned
	e.pinned, e.stolen = nil, errors.New("the database is closed")
	e.mu.Unlock()
	var all error
	if e.w != nil {
		all = e.w.Close()
	}
	if c == nil {
		return all
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectMax) //nolint:forbidigo // io.Closer has none to give.
	defer cancel()
	return errors.Join(all, c.Close(ctx))
}

// tables reads the schema.
func (e *server) tables(ctx context.Context, q querier) ([]tableInfo, error) {
	r := reader{q: &conn{e: e, q: q}}
	return describe(ctx, r,
		`SELECT t.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, COALESCE(array_position(k.indkey::int2[], a.attnum), -1) + 1
			FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
			LEFT JOIN pg_index k ON k.indrelid = t.oid AND k.indisprimary
			WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace ORDER BY t.relname COLLATE "C", a.attnum`,
		`SELECT t.relname, i.relname, a.attname
			FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
			CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS c (num, place) JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.num
			WHERE NOT x.indisprimary AND t.relnamespace = current_schema()::regnamespace ORDER BY t.relname COLLATE "C", i.relname COLLATE "C", c.place`)
}

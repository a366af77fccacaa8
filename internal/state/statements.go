package state

import (
	"context"
	"database/sql"
	"sync"
)

const (
	// statementsMax bounds the statements that are kept compiled.
	statementsMax = 256
	// askedMax bounds the statements of which it is known how often they were asked
	// for, and askedEnough is how often makes one worth keeping.
	askedMax    = 4096
	askedEnough = 3
)

// statements are those that a database is asked again and again, compiled once for
// each of its connections. What is asked for in a transaction is compiled for the
// next one, because there may be no other connection than the one that is taken.
type statements struct {
	db *sql.DB

	mu       sync.Mutex
	compiled map[string]*sql.Stmt // guarded by mu
	asked    map[string]int       // guarded by mu
	wanted   []string             // To be compiled; guarded by mu.
}

// find returns a compiled statement, or nil, and notes that it was asked for.
func (s *statements) find(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.compiled[query]; stmt != nil {
		return stmt
	}
	if s.asked == nil || len(s.asked) >= askedMax {
		s.asked = map[string]int{}
	}
	if s.asked[query]++; s.asked[query] == askedEnough && len(s.compiled)+len(s.wanted) < statementsMax {
		s.wanted = append(s.wanted, query)
	}
	return nil
}

// compile compiles what was wanted. It waits for a connection.
func (s *statements) compile(ctx context.Context) error {
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = nil
	s.mu.Unlock()
	for i, query := range wanted {
		stmt, err := s.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // It closes with the database.
		if err != nil {
			s.mu.Lock()
			s.wanted = append(s.wanted, wanted[i:]...)
			s.mu.Unlock()
			return err
		}
		s.mu.Lock()
		if s.compiled == nil {
			s.compiled = map[string]*sql.Stmt{}
		}
		s.compiled[query] = stmt
		s.mu.Unlock()
	}
	return nil
}

// compiledDB is a database whose single queries use compiled statements.
type compiledDB struct {
	*sql.DB
	all *statements
}

// QueryContext implements querier.
func (d compiledDB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := d.all.compile(ctx); err != nil {
		return nil, err
	}
	if stmt := d.all.find(query); stmt != nil { //nolint:sqlclosecheck // It closes with the database.
		return stmt.QueryContext(ctx, args...)
	}
	return d.DB.QueryContext(ctx, query, args...)
}

// within returns a transaction that uses the compiled statements.
func (s *statements) within(tx *sql.Tx) *compiledTx {
	return &compiledTx{tx, s, map[string]*sql.Stmt{}, map[string]bool{}}
}

// compiledTx is a transaction that uses compiled statements.
type compiledTx struct {
	*sql.Tx
	all   *statements
	mine  map[string]*sql.Stmt // As this transaction has them.
	taken map[string]bool      // Somebody reads their rows.
}

func (t *compiledTx) stmt(ctx context.Context, query string) *sql.Stmt {
	if t.taken[query] {
		return nil
	}
	if stmt := t.mine[query]; stmt != nil {
		return stmt
	}
	stmt := t.all.find(query)
	if stmt == nil {
		return nil
	}
	stmt = t.StmtContext(ctx, stmt)
	t.mine[query] = stmt
	return stmt
}

// ExecContext implements querier.
func (t *compiledTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if stmt := t.stmt(ctx, query); stmt != nil { //nolint:sqlclosecheck // It closes with the transaction.
		return stmt.ExecContext(ctx, args...)
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

// hold implements holder.
func (t *compiledTx) hold(ctx context.Context, query string) (q querier, free func()) {
	stmt := t.stmt(ctx, query)
	if stmt == nil {
		return t, func() {}
	}
	t.taken[query] = true
	return held{t, stmt}, func() { delete(t.taken, query) }
}

// held is a transaction whose next query is a compiled one.
type held struct {
	*compiledTx
	next *sql.Stmt
}

// QueryContext implements querier.
func (h held) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	return h.next.QueryContext(ctx, args...)
}

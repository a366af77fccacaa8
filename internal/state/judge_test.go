package state

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

func TestErrorsOfAServerHaveKinds(t *testing.T) {
	cfg, err := parseURL("postgres://eve@db.example/rows")
	if err != nil {
		t.Fatal(err)
	}
	e := &server{cfg: cfg}
	code := func(code string) error { return fmt.Errorf("write: %w", &pgconn.PgError{Code: code, Message: "why"}) }
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for _, tt := range []struct {
		err  error
		kind errs.Kind
		want string
		lost bool
	}{
		{code("53100"), errs.Exhausted, "the disk that holds database rows at db.example:5432 is full, free some space there", false},
		{code("22021"), errs.Invalid, "a byte that is zero", false},
		{code("40001"), errs.Unavailable, "too busy", false},
		{code("40P01"), errs.Unavailable, "too busy", false},
		{code("57014"), errs.Unavailable, "too busy", false},
		{code("25006"), errs.Unavailable, "follows another server", false},
		{code("3D000"), errs.NotFound, "CREATE DATABASE", false},
		{code("28P01"), errs.Denied, "refuses the user eve", false},
		{code("42501"), errs.Denied, "refuses the user eve", false},
		{code("53300"), errs.Unavailable, "takes no connection", false},
		{code("57P01"), errs.Unavailable, "has lost one", true},
		{code("57P03"), errs.Unavailable, "has lost one", true},
		{code("08006"), errs.Unavailable, "has lost one", true},
		{code("42P01"), errs.Internal, "lacks a table", false},
		{code("23505"), errs.Internal, "why", false},
		{driver.ErrBadConn, errs.Unavailable, "is lost", true},
		{io.ErrUnexpectedEOF, errs.Unavailable, "is lost", true},
		{reset, errs.Unavailable, "is lost", true},
		{pgconn.ErrConnClosed, errs.Unavailable, "is lost", true},
		{sql.ErrNoRows, errs.Internal, "no rows", false},
		{context.Canceled, errs.Internal, "canceled", false},
		{errs.New(errs.Denied, "by us"), errs.Denied, "by us", false},
	} {
		got := e.judge(tt.err)
		if errs.KindOf(got) != tt.kind || !strings.Contains(got.Error(), tt.want) || e.lost(tt.err) != tt.lost {
			t.Errorf("%v: %v (%s, lost: %v), want %s and %q, lost: %v", tt.err, got, errs.KindOf(got), e.lost(tt.err), tt.kind, tt.want, tt.lost)
		}
		if said := errs.Public(got); tt.kind != errs.Internal && (strings.Contains(said, "db.example") || strings.Contains(said, "eve")) {
			t.Errorf("strangers are told %q of %v", said, tt.err)
		}
		if again := e.judge(got); !errors.Is(again, tt.kind) && tt.kind != errs.Internal {
			t.Errorf("judged again: %v", again)
		}
	}
	if e.judge(nil) != nil {
		t.Error("no error has a kind")
	}
	for _, tt := range []struct {
		err     error
		unknown bool
	}{
		{code("40001"), false}, {code("57P01"), true}, {io.EOF, true}, {context.DeadlineExceeded, true}, {pgx.ErrTxCommitRollback, false}, {nil, false},
	} {
		if got := e.outcome(tt.err); (got != nil && strings.Contains(got.Error(), "not known")) != tt.unknown {
			t.Errorf("a commit that ends with %v: %v, want unknown: %v", tt.err, got, tt.unknown)
		}
	}
}

func TestMarksOfArguments(t *testing.T) {
	e := &server{}
	for query, want := range map[string]string{
		"": "", "SELECT 1": "SELECT 1", "a = ? AND b IN (?, ?)": "a = $1 AND b IN ($2, $3)", "a = '?' AND b = ?": "a = '?' AND b = $1",
	} {
		for range 2 {
			if got := e.bind(query); got != want {
				t.Errorf("%q is bound as %q, want %q", query, got, want)
			}
		}
	}
}

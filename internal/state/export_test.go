package state

import (
	"context"
	"fmt"
	"strings"
)

// ChangesMax bounds the change log.
const ChangesMax = changesMax

// Exec runs a statement as the writer.
func (db *DB) Exec(ctx context.Context, query string, args ...any) error {
	_, err := db.w.ExecContext(ctx, query, args...)
	return err
}

// Plan returns how the engine would run a query, a step a line.
func (db *DB) Plan(ctx context.Context, query string) (string, error) {
	rows, err := db.w.QueryContext(ctx, "EXPLAIN QUERY PLAN "+query)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			return "", err
		}
		b.WriteString(detail + "\n")
	}
	return b.String(), rows.Err()
}

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

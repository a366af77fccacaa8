package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// tableInfo is a table as a database has it.
type tableInfo struct {
	name    string
	columns []columnInfo
	key     []string // Columns of the primary key, in its order.
	indexes []string // "name (column, column)", in order.
}

type columnInfo struct {
	name    string
	kind    string // text, bigint or blob.
	notNull bool
}

// describe reads a schema by two queries of the engine: of columns (table,
// column, type, not null, place in the primary key from 1) and of those of
// indexes (table, index, column).
func describe(ctx context.Context, r reader, columns, indexes string) (out []tableInfo, err error) {
	keys := map[string]map[int64]string{}
	err = r.each(ctx, columns, nil, func(scan func(...any) error) error {
		var table string
		var place int64
		var c columnInfo
		if err := scan(&table, &c.name, &c.kind, &c.notNull, &place); err != nil {
			return err
		}
		if len(out) == 0 || out[len(out)-1].name != table {
			out = append(out, tableInfo{name: table})
			keys[table] = map[int64]string{}
		}
		c.kind = kindOf(c.kind)
		last := &out[len(out)-1]
		last.columns = append(last.columns, c)
		if place > 0 {
			keys[table][place] = c.name
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	for i := range out {
		for place := int64(1); keys[out[i].name][place] != ""; place++ {
			out[i].key = append(out[i].key, keys[out[i].name][place])
		}
	}
	found := map[string][]string{} // "table index" to columns
	var order []string
	err = r.each(ctx, indexes, nil, func(scan func(...any) error) error {
		var table, index, column string
		if err := scan(&table, &index, &column); err != nil {
			return err
		}
		name := table + " " + index
		if found[name] == nil {
			order = append(order, name)
		}
		found[name] = append(found[name], column)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read indexes: %w", err)
	}
	for _, name := range order {
		table, index, _ := strings.Cut(name, " ")
		i := slices.IndexFunc(out, func(t tableInfo) bool { return t.name == table })
		if i >= 0 {
			out[i].indexes = append(out[i].indexes, index+" ("+strings.Join(found[name], ", ")+")")
		}
	}
	return slices.DeleteFunc(out, func(t tableInfo) bool {
		return strings.HasPrefix(t.name, "goose_") || strings.HasPrefix(t.name, "sqlite_")
	}), nil
}

// kindOf is what both engines mean by a type of a column.
func kindOf(declared string) string {
	switch kind := strings.ToLower(declared); kind {
	case "integer":
		return "bigint"
	case "bytea":
		return "blob"
	default:
		return kind
	}
}

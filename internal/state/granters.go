package state

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Granter is an owner who may have allowed an address something, and the list
// `authorizations` of the owner's aggregate `security`.
type Granter struct {
	Owner          string
	Authorizations json.RawMessage
}

// EachGranter calls fn for owners whose authorizations name an address, in the
// order of owners. Some may not name it as the one who is allowed.
func (r reader) EachGranter(ctx context.Context, address string, fn func(Granter) error) error {
	pattern := "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(address) + "%"
	// A text of JSON may be written with escapes, which say another thing than they
	// look like.
	query := `SELECT a.owner, v.value FROM aggregates a JOIN aggregate_values v ON v.aggregate = a.id AND v.pk = ?` +
		` WHERE a.name = 'security' AND (v.value LIKE ? ESCAPE '\' OR v.value LIKE '%\\%' ESCAPE '\') ORDER BY a.owner`
	err := r.each(ctx, query, []any{digest("authorizations"), pattern}, func(scan func(...any) error) error {
		var g Granter
		var value string
		if err := scan(&g.Owner, &value); err != nil {
			return err
		}
		g.Authorizations = json.RawMessage(value)
		return fn(g)
	})
	if err != nil {
		return fmt.Errorf("look for who allows %s something: %w", address, err)
	}
	return nil
}

// CountAllPins returns how many pins there are.
func (r reader) CountAllPins(ctx context.Context) (n int64, err error) {
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM pins").Scan(&n); err != nil {
		return 0, fmt.Errorf("count pins: %w", err)
	}
	return n, nil
}

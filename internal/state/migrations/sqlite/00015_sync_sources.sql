-- +goose Up
-- Events that indexers tell of, by who told of them, and how far each was read; see
-- sync.go. Those of the chain that this node reads itself are of nobody.
ALTER TABLE sync_events ADD COLUMN source TEXT NOT NULL DEFAULT '';
CREATE TABLE sync_sources (pk TEXT PRIMARY KEY, doc TEXT NOT NULL);

-- +goose Down
DROP TABLE sync_sources;
DELETE FROM sync_events WHERE source <> '';
ALTER TABLE sync_events DROP COLUMN source;

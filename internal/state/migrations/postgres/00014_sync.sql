-- +goose Up
-- What transactions of a chain say of messages, and how far that chain is read; see
-- sync.go. An intent is of a lane: an account on a chain.
ALTER TABLE intents ADD COLUMN lane TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE TABLE sync_blocks (pk TEXT COLLATE "C" PRIMARY KEY, number BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE UNIQUE INDEX sync_blocks_number ON sync_blocks (number);
CREATE TABLE sync_events (pk TEXT COLLATE "C" PRIMARY KEY, tx TEXT COLLATE "C" NOT NULL, number BIGINT NOT NULL, status TEXT COLLATE "C" NOT NULL, retry_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX sync_events_tx ON sync_events (tx);
CREATE INDEX sync_events_number ON sync_events (number);
CREATE INDEX sync_events_due ON sync_events (status, retry_at);

-- +goose Down
DROP TABLE sync_events;
DROP TABLE sync_blocks;
ALTER TABLE intents DROP COLUMN lane;

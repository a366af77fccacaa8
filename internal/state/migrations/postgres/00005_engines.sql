-- +goose Up
-- What two engines need to be alike. Payments of a block are in the order of
-- their events by a column, not by the order in which they were written.
ALTER TABLE payments ADD COLUMN log_index BIGINT NOT NULL DEFAULT 0;
UPDATE payments SET log_index = COALESCE((doc::json ->> 'log_index')::bigint, 0);

-- The number of the process that owns a database which processes share; see
-- postgres.go. An embedded database is owned by the lock of its directory.
CREATE TABLE fence (pk TEXT COLLATE "C" PRIMARY KEY, epoch BIGINT NOT NULL);
INSERT INTO fence (pk, epoch) VALUES ('owner', 0);

-- +goose Down
DROP TABLE fence;
ALTER TABLE payments DROP COLUMN log_index;

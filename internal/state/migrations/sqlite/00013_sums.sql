-- +goose Up
-- Sums of the messages that count, by ranges of content.time and hash; see sums.go.
-- They are filled when the database is opened.
CREATE TABLE message_sums (at BIGINT NOT NULL, pk TEXT NOT NULL, n BIGINT NOT NULL, sum BLOB NOT NULL, PRIMARY KEY (at, pk)) WITHOUT ROWID;
CREATE INDEX messages_made ON messages (made_at, pk) WHERE signature <> '';
-- How far the histories of other nodes were read, by which nobody goes any more.
DELETE FROM meta WHERE pk LIKE 'reading:%' OR pk = 'database';

-- +goose Down
DROP INDEX messages_made;
DROP TABLE message_sums;

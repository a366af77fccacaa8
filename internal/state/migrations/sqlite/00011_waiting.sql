-- +goose Up
-- Who signed a message that waits, in small letters: see PendingOf.
ALTER TABLE pending ADD COLUMN sender TEXT NOT NULL DEFAULT '';
UPDATE pending SET sender = LOWER(COALESCE(json_extract(envelope, '$.sender'), ''));
CREATE INDEX pending_sender ON pending (sender);
-- Whether what it waits for came: those are looked at first.
ALTER TABLE pending ADD COLUMN woken BIGINT NOT NULL DEFAULT 0;
DROP INDEX pending_due;
CREATE INDEX pending_due ON pending (woken, retry_at);
-- Things that came and for which more messages wait than were woken at once: up to which
-- row they are, and in which order these things have their turns. See Wake.
CREATE TABLE wakes (thing BLOB PRIMARY KEY NOT NULL, upto TEXT NOT NULL, turn BIGINT NOT NULL);

-- +goose Down
DROP TABLE wakes;
DROP INDEX pending_due;
CREATE INDEX pending_due ON pending (retry_at);
ALTER TABLE pending DROP COLUMN woken;
DROP INDEX pending_sender;
ALTER TABLE pending DROP COLUMN sender;

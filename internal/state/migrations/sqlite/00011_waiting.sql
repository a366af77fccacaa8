-- +goose Up
-- Who signed a message that waits, in small letters: see PendingOf.
ALTER TABLE pending ADD COLUMN sender TEXT NOT NULL DEFAULT '';
UPDATE pending SET sender = LOWER(COALESCE(json_extract(envelope, '$.sender'), ''));
CREATE INDEX pending_sender ON pending (sender);

-- +goose Down
DROP INDEX pending_sender;
ALTER TABLE pending DROP COLUMN sender;

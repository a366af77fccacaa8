-- +goose Up
-- Who signed a message that waits, in small letters: see PendingOf.
ALTER TABLE pending ADD COLUMN sender TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE pending SET sender = LOWER(COALESCE((envelope::json ->> 'sender'), ''));
CREATE INDEX pending_sender ON pending (sender);

-- +goose Down
DROP INDEX pending_sender;
ALTER TABLE pending DROP COLUMN sender;

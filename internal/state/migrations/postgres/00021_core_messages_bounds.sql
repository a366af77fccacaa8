-- +goose Up
-- How much of what waits is whose, and what is due, without reading it all.
ALTER TABLE core_messages ADD COLUMN program TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE core_messages ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE core_messages ADD COLUMN due BIGINT NOT NULL DEFAULT 0;
CREATE INDEX core_messages_program ON core_messages (program, bytes);
CREATE INDEX core_messages_due ON core_messages (due, pk);

-- +goose Down
DROP INDEX core_messages_due;
DROP INDEX core_messages_program;
ALTER TABLE core_messages DROP COLUMN due;
ALTER TABLE core_messages DROP COLUMN bytes;
ALTER TABLE core_messages DROP COLUMN program;

-- +goose Up
-- What the outbox asks for: which intents are due, which give way to others,
-- and which were mined in a block that is on the chain no more.
ALTER TABLE intents ADD COLUMN yields BIGINT NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN retry_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN mined_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN mined_in TEXT NOT NULL DEFAULT '';
UPDATE intents SET
    mined_at = COALESCE(json_extract(doc, '$.mined_at'), 0),
    mined_in = COALESCE(json_extract(doc, '$.mined_in'), '');
CREATE INDEX intents_mined ON intents (status, mined_at);
CREATE INDEX offers_payer ON offers (payer, status, received_at);

-- +goose Down
DROP INDEX offers_payer;
DROP INDEX intents_mined;
ALTER TABLE intents DROP COLUMN mined_in;
ALTER TABLE intents DROP COLUMN mined_at;
ALTER TABLE intents DROP COLUMN retry_at;
ALTER TABLE intents DROP COLUMN yields;

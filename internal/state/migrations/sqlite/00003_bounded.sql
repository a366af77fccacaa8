-- +goose Up
-- Services that look again and again find what is due without reading what is
-- long over.
CREATE INDEX jobs_status ON jobs (status, assigned_at);

ALTER TABLE jobs ADD COLUMN block BIGINT NOT NULL DEFAULT 0;
UPDATE jobs SET block = json_extract(doc, '$.block');
CREATE INDEX jobs_node_block ON jobs (node_id, block);

-- Of rows that are there already it is only known whether there is a refund.
-- Readers compare the amount itself, and the row's next change corrects this.
ALTER TABLE accounts ADD COLUMN refund_bits BIGINT NOT NULL DEFAULT 0;
UPDATE accounts SET refund_bits = 128 WHERE COALESCE(json_extract(doc, '$.refund'), 0) <> 0;
CREATE INDEX accounts_live ON accounts (rate_live, refund_bits);

CREATE INDEX payments_payee ON payments (payee, block);

-- +goose Down
DROP INDEX payments_payee;
DROP INDEX accounts_live;
ALTER TABLE accounts DROP COLUMN refund_bits;
DROP INDEX jobs_node_block;
ALTER TABLE jobs DROP COLUMN block;
DROP INDEX jobs_status;

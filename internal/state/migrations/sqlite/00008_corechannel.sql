-- +goose Up
-- What nobody pays for any more: when its time is over, and whose things must be
-- looked at, by how they are paid for; see removals.go.
CREATE TABLE removals (pk TEXT PRIMARY KEY, until BIGINT NOT NULL);
CREATE TABLE reviews (payment TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (payment, owner)) WITHOUT ROWID;
INSERT INTO reviews (payment, owner) SELECT DISTINCT payment, owner FROM costs WHERE payment IN ('hold', 'credit');
CREATE INDEX credit_lots_expiry ON credit_lots (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;

-- +goose Down
DROP INDEX credit_lots_expiry;
DROP TABLE reviews;
DROP TABLE removals;

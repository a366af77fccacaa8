-- +goose Up
-- Token balances as the network's posts say them; dapp is '' for tokens in a
-- wallet. whole is the greatest whole number that is not above tokens.
CREATE TABLE token_balances (address TEXT NOT NULL, chain TEXT NOT NULL, dapp TEXT NOT NULL, tokens TEXT NOT NULL, whole BIGINT NOT NULL, height BIGINT NOT NULL, at BIGINT NOT NULL, ref TEXT NOT NULL, PRIMARY KEY (address, chain, dapp));

-- Credits; see credits.go. An event is a post. Only a transfer that spends has a
-- spender and a doc: what it does depends on what comes before it.
CREATE TABLE credit_events (pk TEXT PRIMARY KEY, at BIGINT NOT NULL, spender TEXT, doc TEXT);
CREATE INDEX credit_events_place ON credit_events (at, pk);
CREATE INDEX credit_events_spender ON credit_events (spender, at, pk);

CREATE TABLE credit_history (ref TEXT NOT NULL, idx BIGINT NOT NULL, at BIGINT NOT NULL, address TEXT NOT NULL, amount BIGINT NOT NULL, price TEXT, bonus BIGINT, tx_hash TEXT, token TEXT, chain TEXT, provider TEXT, origin TEXT, origin_ref TEXT, method TEXT, expires_at BIGINT, files BIGINT, size_mib TEXT, resource TEXT, PRIMARY KEY (ref, idx));
CREATE INDEX credit_history_address ON credit_history (address, at, ref, idx);
CREATE INDEX credit_history_resource ON credit_history (resource) WHERE method = 'credit_expense';

-- A lot that nothing is left of stays: a message that comes late may give back
-- what was taken. A drain is what an event took of a lot.
CREATE TABLE credit_lots (ref TEXT NOT NULL, idx BIGINT NOT NULL, address TEXT NOT NULL, at BIGINT NOT NULL, amount BIGINT NOT NULL, remaining BIGINT NOT NULL, expires_at BIGINT, PRIMARY KEY (ref, idx));
CREATE INDEX credit_lots_left ON credit_lots (address, at, ref, idx) WHERE remaining > 0;
CREATE TABLE credit_drains (ref TEXT NOT NULL, lot_ref TEXT NOT NULL, lot_idx BIGINT NOT NULL, address TEXT NOT NULL, at BIGINT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (ref, lot_ref, lot_idx));
CREATE INDEX credit_drains_address ON credit_drains (address, at, ref);

-- +goose Down
DROP TABLE credit_drains;
DROP TABLE credit_lots;
DROP TABLE credit_history;
DROP TABLE credit_events;
DROP TABLE token_balances;

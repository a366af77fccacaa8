-- +goose Up
-- Every noun is one table: a key, the columns that queries filter on, and the
-- row itself as JSON. Times are BIGINT (microseconds, or seconds of chain
-- time), so the same schema serves SQLite and PostgreSQL.
CREATE TABLE meta (pk TEXT PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE changes (seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, pk TEXT NOT NULL);
CREATE TABLE undo (seq INTEGER PRIMARY KEY, block BIGINT NOT NULL, tbl TEXT NOT NULL, pk TEXT NOT NULL, doc TEXT);
CREATE INDEX undo_block ON undo (block);

CREATE TABLE blocks (pk TEXT PRIMARY KEY, number BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX blocks_number ON blocks (number);
CREATE TABLE nodes (pk TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, signer TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX nodes_signer ON nodes (signer);
CREATE TABLE jobs (pk TEXT PRIMARY KEY, payer TEXT NOT NULL, node_id BIGINT NOT NULL, status TEXT NOT NULL, assigned_at BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX jobs_payer ON jobs (payer, assigned_at);
CREATE INDEX jobs_node ON jobs (node_id, status);
CREATE TABLE accounts (pk TEXT PRIMARY KEY, rate_live BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE TABLE payments (pk TEXT PRIMARY KEY, payer TEXT NOT NULL, payee BIGINT NOT NULL, kind TEXT NOT NULL, block BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX payments_pair ON payments (payer, payee, block);

CREATE TABLE messages (pk TEXT PRIMARY KEY, type TEXT NOT NULL, status TEXT NOT NULL, sender TEXT NOT NULL, received_at BIGINT NOT NULL, retry_at BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX messages_status ON messages (status, received_at);
CREATE INDEX messages_due ON messages (status, retry_at);
CREATE TABLE files (pk TEXT PRIMARY KEY, file_hash TEXT NOT NULL, owner TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX files_hash ON files (file_hash);
CREATE TABLE offers (pk TEXT PRIMARY KEY, payer TEXT NOT NULL, status TEXT NOT NULL, received_at BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX offers_status ON offers (status, received_at);
CREATE TABLE decisions (pk TEXT PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE capacities (pk TEXT PRIMARY KEY, received_at BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE TABLE peers (pk TEXT PRIMARY KEY, seen_at BIGINT NOT NULL, doc TEXT NOT NULL);

CREATE TABLE intents (pk TEXT PRIMARY KEY, seq BIGINT NOT NULL, status TEXT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX intents_status ON intents (status, seq);

CREATE TABLE acceptances (pk TEXT PRIMARY KEY, until BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE TABLE vms (pk TEXT PRIMARY KEY, state TEXT NOT NULL, doc TEXT NOT NULL);
CREATE TABLE usages (pk TEXT PRIMARY KEY, spec TEXT NOT NULL, from_at BIGINT NOT NULL, doc TEXT NOT NULL);
CREATE INDEX usages_spec ON usages (spec, from_at);

-- +goose Down
DROP TABLE usages;
DROP TABLE vms;
DROP TABLE acceptances;
DROP TABLE intents;
DROP TABLE peers;
DROP TABLE capacities;
DROP TABLE decisions;
DROP TABLE offers;
DROP TABLE files;
DROP TABLE messages;
DROP TABLE payments;
DROP TABLE accounts;
DROP TABLE jobs;
DROP TABLE nodes;
DROP TABLE blocks;
DROP TABLE undo;
DROP TABLE changes;
DROP TABLE meta;

-- +goose Up
-- Every noun is one table: a key, the columns that queries filter on, and the
-- row itself as JSON. Times are BIGINT (microseconds, or seconds of chain
-- time), so the same schema serves SQLite and PostgreSQL.
CREATE TABLE meta (pk TEXT COLLATE "C" PRIMARY KEY, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE changes (seq BIGINT PRIMARY KEY, topic TEXT COLLATE "C" NOT NULL, pk TEXT COLLATE "C" NOT NULL);
CREATE TABLE undo (seq BIGINT PRIMARY KEY, block BIGINT NOT NULL, tbl TEXT COLLATE "C" NOT NULL, pk TEXT COLLATE "C" NOT NULL, doc TEXT COLLATE "C");
CREATE INDEX undo_block ON undo (block);

CREATE TABLE blocks (pk TEXT COLLATE "C" PRIMARY KEY, number BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX blocks_number ON blocks (number);
CREATE TABLE nodes (pk TEXT COLLATE "C" PRIMARY KEY, kind TEXT COLLATE "C" NOT NULL, status TEXT COLLATE "C" NOT NULL, signer TEXT COLLATE "C" NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX nodes_signer ON nodes (signer);
CREATE TABLE jobs (pk TEXT COLLATE "C" PRIMARY KEY, payer TEXT COLLATE "C" NOT NULL, node_id BIGINT NOT NULL, status TEXT COLLATE "C" NOT NULL, assigned_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX jobs_payer ON jobs (payer, assigned_at);
CREATE INDEX jobs_node ON jobs (node_id, status);
CREATE TABLE accounts (pk TEXT COLLATE "C" PRIMARY KEY, rate_live BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE payments (pk TEXT COLLATE "C" PRIMARY KEY, payer TEXT COLLATE "C" NOT NULL, payee BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL, block BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX payments_pair ON payments (payer, payee, block);

CREATE TABLE messages (pk TEXT COLLATE "C" PRIMARY KEY, type TEXT COLLATE "C" NOT NULL, status TEXT COLLATE "C" NOT NULL, sender TEXT COLLATE "C" NOT NULL, received_at BIGINT NOT NULL, retry_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX messages_status ON messages (status, received_at);
CREATE INDEX messages_due ON messages (status, retry_at);
CREATE TABLE files (pk TEXT COLLATE "C" PRIMARY KEY, file_hash TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX files_hash ON files (file_hash);
CREATE TABLE offers (pk TEXT COLLATE "C" PRIMARY KEY, payer TEXT COLLATE "C" NOT NULL, status TEXT COLLATE "C" NOT NULL, received_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX offers_status ON offers (status, received_at);
CREATE TABLE decisions (pk TEXT COLLATE "C" PRIMARY KEY, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE capacities (pk TEXT COLLATE "C" PRIMARY KEY, received_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE peers (pk TEXT COLLATE "C" PRIMARY KEY, seen_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);

CREATE TABLE intents (pk TEXT COLLATE "C" PRIMARY KEY, seq BIGINT NOT NULL, status TEXT COLLATE "C" NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE INDEX intents_status ON intents (status, seq);

CREATE TABLE acceptances (pk TEXT COLLATE "C" PRIMARY KEY, until BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE vms (pk TEXT COLLATE "C" PRIMARY KEY, state TEXT COLLATE "C" NOT NULL, doc TEXT COLLATE "C" NOT NULL);
CREATE TABLE usages (pk TEXT COLLATE "C" PRIMARY KEY, spec TEXT COLLATE "C" NOT NULL, from_at BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
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

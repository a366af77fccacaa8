-- +goose Up
-- What each event of the registry and of the stakes on chain has changed of a
-- node, in their order; see registry.go.
CREATE TABLE registry (pk TEXT COLLATE "C" PRIMARY KEY, block BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL);
-- When the chain that confirms messages had which height.
CREATE INDEX confirmations_at ON confirmations (chain, at, height);

-- How often an aggregate has changed, so that what was made of it is made again.
ALTER TABLE aggregates ADD COLUMN changes BIGINT NOT NULL DEFAULT 0;
-- An aggregate that this node makes by itself and serves without a message.
CREATE TABLE own_aggregates (pk BYTEA PRIMARY KEY, owner TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL, content TEXT COLLATE "C" NOT NULL);

-- What the network has measured of nodes: kind is ccn or crn, message the number
-- of the post, doc the columns.
CREATE TABLE node_metrics (kind TEXT COLLATE "C" NOT NULL, node TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL, message BIGINT NOT NULL, doc TEXT COLLATE "C" NOT NULL, PRIMARY KEY (kind, node, at, message));
CREATE INDEX node_metrics_at ON node_metrics (at);

-- +goose Down
DROP TABLE node_metrics;
DROP TABLE own_aggregates;
ALTER TABLE aggregates DROP COLUMN changes;
DROP INDEX confirmations_at;
DROP TABLE registry;

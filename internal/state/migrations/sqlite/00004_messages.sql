-- +goose Up
-- See catalogue.go.
CREATE TABLE message_blocks (block BIGINT PRIMARY KEY, n BIGINT NOT NULL, min_at BIGINT NOT NULL, max_at BIGINT NOT NULL, times BLOB);
CREATE TABLE message_times (id INTEGER PRIMARY KEY, at BIGINT NOT NULL);
CREATE TABLE message_postings (term BLOB NOT NULL, block BIGINT NOT NULL, n BIGINT NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (term, block)) WITHOUT ROWID;

-- +goose Down
DROP TABLE message_postings;
DROP TABLE message_times;
DROP TABLE message_blocks;

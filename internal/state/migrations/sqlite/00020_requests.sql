-- +goose Up
-- Signed requests that were used, so that a restart does not make them good again.
CREATE TABLE used_requests (pk TEXT PRIMARY KEY, doc TEXT NOT NULL, until INTEGER NOT NULL);
CREATE INDEX used_requests_until ON used_requests (until);
-- When each scheduler's newest list was signed, so that no older one follows it.
CREATE TABLE newest_lists (pk TEXT PRIMARY KEY, doc TEXT NOT NULL);

-- +goose Down
DROP TABLE newest_lists;
DROP TABLE used_requests;

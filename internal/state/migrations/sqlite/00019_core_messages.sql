-- +goose Up
-- Messages of programs that no core channel node has taken yet.
CREATE TABLE core_messages (pk TEXT PRIMARY KEY, doc TEXT NOT NULL);

-- +goose Down
DROP TABLE core_messages;

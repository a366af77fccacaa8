-- +goose Up
-- Messages of programs that no core channel node has taken yet.
CREATE TABLE core_messages (pk TEXT COLLATE "C" PRIMARY KEY, doc TEXT COLLATE "C" NOT NULL);

-- +goose Down
DROP TABLE core_messages;

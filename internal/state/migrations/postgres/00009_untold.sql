-- +goose Up
-- Messages that processes without a network took in; see untold.go.
CREATE TABLE untold (id BIGINT PRIMARY KEY, message TEXT COLLATE "C" NOT NULL);

-- +goose Down
DROP TABLE untold;
